"""What went wrong, in one form: ``config::id: what is wrong, with the value. What to do.``"""

from monai_lighter.errors.errors import (
    BundleError,
    CaseError,
    ComponentError,
    ConfigError,
    ConfigFileError,
    Finding,
    NonFiniteError,
    Note,
    did_you_mean,
    explain,
    in_short,
    in_terms_of_config,
    is_command,
    join_sentences,
    print_errors_briefly,
)

__all__ = [
    "BundleError",
    "CaseError",
    "ComponentError",
    "ConfigError",
    "ConfigFileError",
    "Finding",
    "NonFiniteError",
    "Note",
    "did_you_mean",
    "explain",
    "in_short",
    "in_terms_of_config",
    "is_command",
    "join_sentences",
    "print_errors_briefly",
]
