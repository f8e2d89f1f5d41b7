"""vLLM's own serving benchmark, by its module. usage: vllm_bench.py FLAG...

`vllm bench serve` itself looks for a package named vllm, and a CPU's build has another name. The flags are the same.
"""

from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
