"""Running trials on Ray: plan, placement, one trial, recording, failures, retries."""
