"""Answers of a run's conversations anew: the books, what outlives a crash, and that another run reads them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.corpus import prose
from tests.pipeline.fasttext_models import write_model
from tests.pipeline.regenerate.endpoint_server import EndpointServer, number_in, reply, serving, well
from tests.pipeline.runs import TOKENMILL, newest, run_inline
from tests.pipeline.test_takedown import removed
from tokenmill.manifests.balance import Balance, sum_tallies
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.regenerate import endpoint as endpoint_module
from tokenmill.pipeline.regenerate.endpoint import EndpointError
from tokenmill.pipeline.regenerate.source import Regenerated, regenerate
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked
