"""Opens a cloud by the name of its provider. The SDK is loaded when the cloud is opened."""

from models.errors import Invalid
from models.settings.settings import Settings
from train.clouds.cloud import Cloud

PROVIDERS = ("openai", "together")


def open_cloud(provider: str, settings: Settings) -> Cloud:
    """The fine-tuning API of a provider.

    Raises:
        Invalid: an unknown provider, no key in the settings, or the SDK is not installed.
    """
    if provider == "openai":
        from train.clouds.openai import OpenAICloud

        return OpenAICloud(settings)
    if provider == "together":
        from train.clouds.together import TogetherCloud

        return TogetherCloud(settings)
    raise Invalid(f"{provider!r} is not a cloud provider: use {' or '.join(PROVIDERS)}.", param="on")


def provider_of(job_id: str) -> str | None:
    """The provider of a job, by the prefix of its id; None if the prefix is unknown."""
    if job_id.startswith("ftjob-"):
        return "openai"
    return "together" if job_id.startswith("ft-") else None
