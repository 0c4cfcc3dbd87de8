"""What only the parts themselves can tell of a recipe that is well-formed: combinations that cannot work, found when it is
read and not after the first hour. Each is a ConfigError in one line: the file, the field, the value, the mend."""

from langevin.config.checks.recipe import check
from langevin.config.checks.sampling import check_sampling
from langevin.config.checks.task import check_task

__all__ = ["check", "check_sampling", "check_task"]
