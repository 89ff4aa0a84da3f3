"""What a run will hold on its device at its peak, found by one step of each phase on tensors without data."""
