"""Imports go one way, and light modules load nothing heavy."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = ("main", "hwsim", "fbq", "launch")
METHOD = (
  *("fbq.precision", "fbq.block_formats", "fbq.nets", "fbq.quantizers"),
  *("fbq.ops", "fbq.backend", "fbq.variables", "hwsim"),
)
# Room -> what its files may import of this project, besides each other. The
# first that a module's name begins with counts; a package's __init__, which
# loads nothing, is importable from everywhere.
MAY_IMPORT = {
  "hwsim": (),
  "fbq.files": (),
  "fbq.doors": (),
  "fbq.config": ("fbq.doors", "fbq.config_words"),
  "fbq.config_words": (),
  "fbq.backend": (),
  "fbq.precision": METHOD,
  "fbq.block_formats": METHOD,
  "fbq.nets": (*METHOD, "fbq.files"),
  "fbq.quantizers": METHOD,
  "fbq.ops": (*METHOD, "fbq.depthwise"),
  "fbq.depthwise": (),
  "fbq.attention": (),
  "fbq.dense": (),
  "fbq.variables": (),
  "fbq.halves": ("fbq.backend",),
  "fbq.norms": (),
  "fbq.schemes": METHOD,
  "fbq.model": (
    *METHOD,
    *("fbq.schemes", "fbq.norms", "fbq.halves", "fbq.attention"),
  ),
  "fbq.data": ("fbq.files", "fbq.backend", "fbq.dense"),
  "fbq.train": (
    *METHOD,
    *("fbq.schemes", "fbq.norms", "fbq.model", "fbq.data", "fbq.files"),
    "fbq.dense",
  ),
  "fbq.search": (*METHOD, "fbq.schemes"),
  "fbq.ptq": (
    *(*METHOD, "fbq.norms", "fbq.schemes", "fbq.model", "fbq.train"),
  ),
  "fbq.deploy": (
    *METHOD,
    *("fbq.schemes", "fbq.norms", "fbq.model", "fbq.train", "fbq.ptq"),
    "fbq.files",
  ),
  "fbq.report.__main__": (
    *("fbq.config", "fbq.lab", "fbq.files", "fbq.report"),
  ),
  "fbq.report": ("fbq.search", "fbq.precision", "fbq.files", "hwsim"),
  "fbq.lab": (
    *METHOD,
    *("fbq.config", "fbq.config_words", "fbq.doors", "fbq.files"),
    "fbq.dense",
    *(
      "fbq.norms",
      "fbq.schemes",
      "fbq.model",
      "fbq.data",
      "fbq.train",
      "fbq.search",
      "fbq.ptq",
    ),
    *("fbq.deploy", "fbq.report"),
  ),
  "launch": ("fbq.report.picture", "fbq.search.pareto", "fbq.files"),
  "main": ("fbq.config", "fbq.files", "fbq.lab"),
}
# Experiments may import every room, but no other experiment.
EXPERIMENTS = "fbq.experiments"
HEAVY = (
  *("matplotlib", "sklearn", "scipy", "jinja2", "orbax", "tensorstore"),
  *("onnx", "grain", "pandas", "PIL", "array_record", "safetensors"),
  *("tensorboardX", "onnxruntime", "ai_edge_litert"),
)
FILES = sorted(
  path
  for room in ROOMS
  for path in (*ROOT.glob(f"{room}.py"), *ROOT.glob(f"{room}/**/*.py"))
)


def module_name(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_in(name, room):
  return name == room or name.startswith(f"{room}.")


def is_module(name):
  return (ROOT / name.replace(".", "/")).is_dir() or (
    ROOT / f"{name.replace('.', '/')}.py"
  ).is_file()


def imported(tree):
  """(module of this project, line) for every import, late ones too."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"line {node.lineno}: relative import"
      whole = [f"{node.module}.{alias.name}" for alias in node.names]
      names = [name if is_module(name) else node.module for name in whole]
    else:
      continue
    for name in names:
      if any(is_in(name, room) for room in ROOMS):
        yield name, node.lineno


def wrong_imports(module, source):
  """Imports of `source`, were it in `module`, that go against the direction."""
  room = next((r for r in MAY_IMPORT if is_in(module, r)), None)
  if is_in(module, EXPERIMENTS):
    own = ".".join(module.split(".")[:3])
    room, allowed = own, (own, "fbq", "hwsim")
    others = [
      n for n, _ in imported(ast.parse(source)) if is_in(n, EXPERIMENTS)
    ]
    if any(not is_in(name, own) for name in others):
      return [f"{module} imports {others}"]
  elif room is None:
    assert module == "fbq", f"{module}: which room is it in?"
    allowed = ("hwsim.public",)  # it only says where its names are
  else:
    allowed = (room, *MAY_IMPORT[room])
  return [
    f"{module} imports {name} (line {line})"
    for name, line in imported(ast.parse(source))
    if not any(is_in(name, a) for a in allowed)
  ]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_one_way(path):
  assert not wrong_imports(module_name(path), path.read_text())


@pytest.mark.parametrize(
  "module, source",
  [
    ("hwsim.workload", "import fbq.nets"),
    ("hwsim.pulp", "from fbq import nets"),
    ("hwsim.pulp.target", "import launch"),
    ("fbq.nets.graph", "from fbq.model import Model"),
    ("fbq.quantizers.gates", "from fbq.schemes.fixed import Fixed"),
    ("fbq.schemes.fixed", "from fbq.model import Model"),
    ("fbq.model", "def f():\n  from fbq import train"),
    ("fbq.search.free_bits", "from fbq.train import steps"),
    ("fbq.search.exact", "import fbq.model as model"),
    ("fbq.ptq.folding", "from fbq.deploy import lowering"),
    ("fbq.train.loop", "import fbq.experiments.free_bits"),
    ("fbq.train.loop", "from fbq.search import free_bits"),
    ("fbq.lab.lab", "from fbq.experiments.free_bits import config"),
    ("fbq.report.page", "from fbq.lab.lab import Lab"),
    (
      "fbq.experiments.exact.page",
      "from fbq.experiments.free_bits import page",
    ),
    ("main", "from fbq.experiments import free_bits"),
    ("launch.pool", "from hwsim import workload"),
    ("launch.pool", "from fbq.report import plots"),
    ("launch.pool", "import fbq.train.steps"),
    ("fbq", "from fbq import nets"),
  ],
)
def test_wrong_imports_are_found(module, source):
  assert wrong_imports(module, source)


def eagerly_imported(tree):
  """Top modules imported when a file is loaded, functions excluded."""
  pending = list(tree.body)
  while pending:
    node = pending.pop()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
      continue
    if isinstance(node, ast.Import):
      yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield node.module.split(".")[0]
    pending += ast.iter_child_nodes(node)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_heavy_packages_are_imported_where_they_are_used(path):
  found = set(eagerly_imported(ast.parse(path.read_text())))
  heavy = {*HEAVY, "jax"} if module_name(path).startswith("launch") else HEAVY
  assert not found.intersection(heavy)


def test_light_modules_load_nothing_heavy():
  """What they import imports nothing heavy either."""
  light = [
    name
    for name in map(module_name, FILES)
    if not name.startswith(("main", "fbq.experiments", "fbq.deploy"))
  ]
  assert {"fbq.model", "fbq.data.digits", "hwsim.pulp"} <= set(light)
  script = f"""
import importlib, sys
for name in {light!r}:
  importlib.import_module(name)
print(*sorted(set({HEAVY!r}).intersection(sys.modules)))
"""
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == []


@pytest.mark.parametrize(
  "name",
  [
    *("matplotlib", "sklearn", "orbax", "jinja2", "PIL", "grain"),
    *("array_record", "safetensors", "tensorboardX"),
  ],
)
def test_names_of_heavy_packages_are_right(name):
  """A misspelt one could never be found loaded."""
  assert name in HEAVY and importlib.util.find_spec(name)
