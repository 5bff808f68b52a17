#!/usr/bin/env bash
# Process 1 of a machine that is namespaces on this host: gives it a disk of its own, a host name, a metadata service
# and sshd, and then reaps what its processes leave behind. Called by machines.py, inside the new namespaces.
#   machine.sh NAME DISK COMMON PYTHON METADATA FOLDER...
# DISK has home, tmp and etc; COMMON has shared, an NFS mount, and cloud; FOLDERs are seen where they are, read-only.
set -euo pipefail
name=$1 disk=$2 common=$3 python=$4 metadata=$5
shift 5

mount -t proc proc /proc
hostname "$name"
ip link set lo up
ip address add 169.254.169.254/32 dev lo # where clouds have their metadata service

# What lies under a folder that is about to be covered is held under /mnt meanwhile.
mount -t tmpfs -o mode=755 tmpfs /mnt
hold() { mkdir "/mnt/$1" && mount --bind "$2" "/mnt/$1"; }
hold disk "$disk"
hold common "$common"
count=0
for folder in "$@"; do
  hold "$count" "$folder"
  count=$((count + 1))
done

# Nothing of the host's own users and runs is seen here.
mount --bind /mnt/disk/tmp /tmp
for covered in /home /root /run; do
  mount -t tmpfs -o mode=755 tmpfs "$covered"
done
mount -t tmpfs -o mode=1777 tmpfs /dev/shm

count=0
for folder in "$@"; do
  mkdir -p "$folder"
  mount --bind "/mnt/$count" "$folder"
  mount -o remount,bind,ro "$folder"
  umount "/mnt/$count"
  count=$((count + 1))
done
mkdir -p /home/ubuntu /run/shared /run/cloud /run/sshd
mount --bind /mnt/disk/home /home/ubuntu
mount --bind /mnt/common/shared /run/shared
mount --bind /mnt/common/cloud /run/cloud
for file in hosts passwd group; do
  mount --bind "/mnt/disk/etc/$file" "/etc/$file"
done
install -m 600 /mnt/disk/etc/host_key /run/host_key
cp /mnt/disk/etc/sshd_config /run/sshd_config
umount /mnt/disk /mnt/common /mnt
cd /

"$python" "$metadata" "/run/cloud/notice-$name" 169.254.169.254 80 &
/usr/sbin/sshd -D -e -f /run/sshd_config &
echo started
while :; do
  wait -n || true # bash reaps orphans as they end
  sleep 0.5
done
