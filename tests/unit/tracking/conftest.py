from __future__ import annotations

import os

os.environ["WANDB_ERROR_REPORTING"] = "false"  # as our logger says, should wandb be imported before it is opened
