"""Lightning module, losses, schedules, cross-validation."""
