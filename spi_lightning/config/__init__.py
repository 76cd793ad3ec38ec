"""From Hydra's composed config to checked settings, and the scope in which every job runs."""
