"""The graders in requests, with OpenAI's fields and limits. They are passed on as the JSON objects that were sent."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from models.http.bodies import Body

Metric = Literal[
    "cosine", "fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
]
MAX_SOURCE = 256 * 1024  # characters of a Python grader, as OpenAI's
Text = Annotated[str, Field(max_length=2**20)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Model = Annotated[str, Field(min_length=1, max_length=255)]
_Number = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]


class TextPart(Body):
    """A text in a message's content."""

    type: Literal["input_text", "output_text", "text"]
    text: Text


class ImagePart(Body):
    """An image in a message's content: a URL or a data URL."""

    type: Literal["input_image"]
    image_url: Annotated[str, Field(min_length=1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class Audio(Body):
    """Base64 data and its format."""

    data: Annotated[str, Field(min_length=1)]
    format: Literal["mp3", "wav"]


class AudioPart(Body):
    """Audio in a message's content."""

    type: Literal["input_audio"]
    input_audio: Audio


_Part = Text | TextPart | ImagePart | AudioPart


class TemplateMessage(Body):
    """A message with variables, also in the addresses of images and the data of audio."""

    role: Literal["user", "assistant", "system", "developer"]
    content: _Part | list[_Part]
    type: Literal["message"] | None = None
    phase: str | None = None


class _Grader(Body):
    id: str | None = None
    name: Name


class StringCheck(_Grader):
    """Compares two texts: equal, not equal, contains, contains without regard to case."""

    type: Literal["string_check"]
    input: Text
    reference: Text
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(_Grader):
    """A metric of two texts, 0 to 1."""

    type: Literal["text_similarity"]
    input: Text
    reference: Text
    evaluation_metric: Metric
    pass_threshold: _Number | None = None


class SamplingParams(Body):
    """How a judge is sampled. The SDK's types call the limit `max_completions_tokens`."""

    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    max_completions_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    reasoning_effort: str | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None


class ScoreModel(_Grader):
    """A judge that gives a number in a range."""

    type: Literal["score_model"]
    model: Model
    input: Annotated[list[TemplateMessage], Field(min_length=1)]
    range: Annotated[list[_Number], Field(min_length=2, max_length=2)] | None = None
    pass_threshold: _Number | None = None
    sampling_params: SamplingParams | None = None

    @model_validator(mode="after")
    def _check(self) -> "ScoreModel":
        if self.range and self.range[0] >= self.range[1]:
            raise ValueError("range must be two numbers, the lower one first")
        return self


class LabelModel(_Grader):
    """A judge that chooses one of the labels."""

    type: Literal["label_model"]
    model: Model
    input: Annotated[list[TemplateMessage], Field(min_length=1)]
    labels: Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], Field(min_length=1, max_length=200)]
    passing_labels: list[str]

    @model_validator(mode="after")
    def _check(self) -> "LabelModel":
        if not set(self.passing_labels) <= set(self.labels):
            raise ValueError("passing_labels must be among the labels")
        return self


class PythonProgram(_Grader):
    """A program that defines `grade(sample, item)`, which returns a number."""

    type: Literal["python"]
    source: Annotated[str, Field(min_length=1, max_length=MAX_SOURCE)]
    image_tag: str | None = None
    pass_threshold: _Number | None = None


Single = Annotated[
    StringCheck | TextSimilarity | ScoreModel | LabelModel | PythonProgram, Field(discriminator="type")
]  # fmt: skip


class Multi(_Grader):
    """Several graders, by name, and a formula over their scores."""

    type: Literal["multi"]
    graders: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$")], Single] | Single
    calculate_output: Annotated[str, Field(min_length=1, max_length=4096)]


AnyGrader = Annotated[
    StringCheck | TextSimilarity | ScoreModel | LabelModel | PythonProgram | Multi, Field(discriminator="type")
]  # fmt: skip


def grader_json(grader: Body) -> dict[str, Any]:
    """A grader as JSON, without the fields that were not sent."""
    return grader.model_dump(mode="json", exclude_unset=True)


def parts_of(grader: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The graders of a multi grader by name. A single one is known by its own name."""
    graders = grader["graders"]
    return {graders["name"]: graders} if isinstance(graders.get("type"), str) else graders
