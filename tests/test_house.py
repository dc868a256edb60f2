"""The house's rules, read off the source: what lies where, what imports what, how long things are.

Nothing of the project is imported here. Each rule is a function that returns its violations as
lines of text; the tests below apply it to the project and to small bad sources.
"""

import ast
from pathlib import Path
import re
import symtable

from conftest import ROOT

import pytest

SCRIPTS = {"train", "infer", "evaluate", "visualize"}
TOP_LEVEL = {"datasets", "networks", "losses", "helper", *SCRIPTS}
ONE_CALL = {"igr/__init__.py", "helper.py"}  # may do what comes before large imports
# what each package of igr/ may import; all may import helper
ARROWS = {
    "backend": (),
    "geometry": ("backend",),
    "formats": ("geometry",),
    "pointcloud": ("geometry", "formats", "backend"),
    "isosurface": ("geometry", "backend"),
    "field": ("backend",),
    "refinement": ("geometry", "backend"),
    "training": ("pointcloud", "field", "isosurface", "geometry", "backend"),
    "scene": ("training", "refinement", "isosurface", "pointcloud", "field", "formats",
              "geometry", "backend"),
    "view": ("geometry", "backend"),
}
LOOSE = {"igr/__init__.py", "igr/__main__.py"}  # modules of igr/ outside its packages
COMPOSER = "igr/__main__.py"  # takes a scan through all scripts: it may import them
WITHOUT_OPEN3D = ("igr/training/", "igr/field/", "igr/isosurface/")
FUNCTION_LINES, NESTING, PARAMETERS, FIELDS = 60, 3, 6, 6
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try)


def sources(*folders) -> dict:
    """{path below ROOT: text} of the Python files that lie directly in the folders."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).glob("*.py")):
            found[path.relative_to(ROOT).as_posix()] = path.read_text()
    return found


def module_of(path: str) -> str:
    """igr.surface of igr/isosurface/extraction.py, igr of igr/__init__.py, train of train.py."""
    return path[: -len(".py")].replace("/", ".").replace(".__init__", "")


# -------------------------------------------------------------------------------- what imports what


def imported(path: str, text: str, modules) -> dict:
    """{module of `modules` that a file imports: the first line that does}, imports inside functions
    included. `from igr import a` imports igr.a where that is a module, else igr."""
    found = {}
    package = path.rpartition("/")[0].replace("/", ".")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"{package}." if node.level else ""  # from . import a
            base += f"{node.module}." if node.module else ""
            names = [base + alias.name for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name:
                found.setdefault(name, node.lineno)
    return found


def foreign_imports(files: dict, modules) -> list:
    """Imports in igr/ of modules of the project other than helper and igr's own."""
    return [f"{path}:{line}: imports {name}"
            for path, text in files.items() if path.startswith("igr/") and path != COMPOSER
            for name, line in imported(path, text, modules).items()
            if name != "helper" and name.split(".")[0] != "igr"]


def script_imports(files: dict, modules) -> list:
    """Imports of a script by any other module; tests, benchmarks and COMPOSER may."""
    return [f"{path}:{line}: imports the script {name}"
            for path, text in files.items()
            if not path.startswith(("tests/", "benchmarks/", COMPOSER))
            for name, line in imported(path, text, modules).items() if name in SCRIPTS]


def layers(files: dict, modules):
    """(the modules in an order in which each imports only earlier ones, those left over because of
    a cycle)."""
    waiting = {module_of(path): set(imported(path, text, modules)) for path, text in files.items()}
    order = []
    while True:
        ready = sorted(name for name, needs in waiting.items() if not needs & waiting.keys())
        if not ready:
            return order, sorted(waiting)
        order += ready
        for name in ready:
            del waiting[name]


def forbidden_arrows(files: dict, modules) -> list:
    """Imports between packages of igr/ that ARROWS does not allow."""
    return [f"{path} imports {name}"
            for path, text in files.items() if path.count("/") == 2
            for name in imported(path, text, modules)
            if name.count(".") and name.split(".")[1] != path.split("/")[1]
            and name.split(".")[1] not in ARROWS[path.split("/")[1]]]


# -------------------------------------------------------------------------- what stands in a module


def reads_global_args(path: str, text: str) -> list:
    """Functions that read a global named args."""
    found = []
    for scope in inner_scopes(symtable.symtable(text, path, "exec")):
        if scope.get_type() == "function" and "args" in scope.get_identifiers():
            symbol = scope.lookup("args")
            if symbol.is_global() and symbol.is_referenced():
                found.append(f"{path}:{scope.get_lineno()}: {scope.get_name()} reads a global args")
    return found


def inner_scopes(table):
    """Yield the scopes of functions and classes within a symbol table."""
    for child in table.get_children():
        yield child
        yield from inner_scopes(child)


def runs_at_import(path: str, text: str) -> list:
    """Statements of a module that are no import, constant, function or class.

    `if __name__ == "__main__":` and `if TYPE_CHECKING:` are allowed. A file of ONE_CALL may make
    one call.
    """
    allowed_calls = 1 if path in ONE_CALL else 0
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, (ast.Import, ast.ImportFrom, *FUNCTIONS, ast.ClassDef)):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and binds_names(node):
            continue
        if isinstance(node, ast.If) and is_guard(node):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and allowed_calls:
            allowed_calls -= 1
            continue
        found.append(f"{path}:{node.lineno}: {type(node).__name__} at module level")
    return found


def binds_names(node) -> bool:
    """Whether an assignment only binds names; `a.b = c` and `a[b] = c` change something else."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    while targets:
        target = targets.pop()
        if isinstance(target, (ast.Tuple, ast.List)):
            targets += target.elts
        elif not isinstance(target, ast.Name):
            return False
    return True


def is_guard(node: ast.If) -> bool:
    """Whether an `if` at module level keeps its block from running at import."""
    guards = ("__name__ == '__main__'", "TYPE_CHECKING")
    same = [ast.dump(node.test) == ast.dump(ast.parse(guard, mode="eval").body) for guard in guards]
    return any(same) and not node.orelse


# ------------------------------------------------------------------------------ how long things are


def too_large(path: str, text: str) -> list:
    """Functions that are too long, nested too deep or have too many parameters, and classes with
    too many mutable fields. Compiled kernels are excepted."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and len(mutable_fields(node)) > FIELDS:
            found.append(f"{path}:{node.lineno}: {node.name} has the fields "
                         f"{', '.join(sorted(mutable_fields(node)))}")
        if not isinstance(node, FUNCTIONS) or is_kernel(node):
            continue
        lines = node.end_lineno - node.lineno + 1
        if lines > FUNCTION_LINES:
            found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
        if nesting(node) > NESTING:
            found.append(f"{path}:{node.lineno}: {node.name} is nested {nesting(node)} deep")
        if len(parameters(node)) > PARAMETERS:
            found.append(f"{path}:{node.lineno}: {node.name} has {len(parameters(node))} "
                         "parameters")
    return found


def is_kernel(node) -> bool:
    """Whether a function is compiled by numba."""
    return any("compiled" in ast.unparse(decorator) for decorator in node.decorator_list)


def parameters(node) -> list:
    """The names of a function's parameters without self and cls."""
    names = [arg.arg for arg in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
    return [name for name in names if name not in ("self", "cls")]


def mutable_fields(node: ast.ClassDef) -> set:
    """The names that a class's methods other than __init__ assign to, as self.name."""
    return {target.attr
            for method in node.body
            if isinstance(method, FUNCTIONS) and method.name != "__init__"
            for statement in ast.walk(method)
            if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign))
            for target in ast.walk(statement)
            if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
            and isinstance(target.value, ast.Name) and target.value.id == "self"}


def nesting(node) -> int:
    """How deep blocks (for, while, if, with, try) are nested below a node.

    `elif` adds no level. A function or class inside the node is measured by itself.
    """
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            continue
        adds = isinstance(child, BLOCKS) and not is_elif(node, child)
        deepest = max(deepest, adds + nesting(child))
    return deepest


def is_elif(parent, child) -> bool:
    """Whether `child` is an `elif` of `parent`: an `if` in its `else`, in the same column."""
    return (isinstance(parent, ast.If) and parent.orelse == [child] and isinstance(child, ast.If)
            and parent.col_offset == child.col_offset)


# -------------------------------------------------------------------------- the project's own files


PACKAGES = sorted(path.parent for path in (ROOT / "igr").glob("*/__init__.py"))
PROJECT = sources(".", "igr", *PACKAGES, *(folder for name in ("benchmarks", "tests")
                                           for folder in (name, *(ROOT / name).glob("*/"))))
# names by which modules import each other: the tests' have no folder before them
MODULES = {Path(path).stem if path.startswith("tests/") else module_of(path) for path in PROJECT}
CONTRIBUTING = ROOT / "docs" / "contributing.md"
HOUSE = {path: text for path, text in PROJECT.items() if "/" not in path or path[:4] == "igr/"}


def test_top_level_has_the_users_files_only():
    assert {path.stem for path in ROOT.glob("*.py")} == TOP_LEVEL


def test_igr_imports_helper_and_itself_only():
    assert foreign_imports(HOUSE, MODULES) == []


def test_packages_import_as_allowed():
    assert forbidden_arrows(HOUSE, MODULES) == []
    assert {path.name for path in PACKAGES} == ARROWS.keys()
    assert {path for path in HOUSE if path.count("/") == 1} == LOOSE


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_says_what_is_in_it(package):
    """Its docstring has a line for each of its modules, no other, and its arrows."""
    text = ast.get_docstring(ast.parse(HOUSE[f"igr/{package}/__init__.py"]))
    listed = re.findall(r"^    (\w+) ", text, re.M)
    modules = [Path(path).stem for path in HOUSE if path.startswith(f"igr/{package}/")]
    assert sorted(["__init__", *listed]) == sorted(modules)
    allowed = text.rpartition("It may import ")[2].rstrip(".")
    assert allowed == (", ".join(ARROWS[package]) or "nothing of the project but helper")


def test_training_and_inference_do_without_open3d():
    assert [path for path, text in HOUSE.items()
            if path.startswith(WITHOUT_OPEN3D) and "open3d" in text] == []
    assert [path for path, text in HOUSE.items()
            if re.search("^(import|from) open3d", text, re.M)] == []


def test_scripts_are_not_imported():
    assert script_imports(PROJECT, MODULES) == []


def test_imports_go_downwards():
    order, cycle = layers(HOUSE, MODULES)
    assert cycle == []
    assert set(order) == {module_of(path) for path in HOUSE}


@pytest.mark.parametrize("path", HOUSE)
def test_no_function_reads_a_global_args(path):
    assert reads_global_args(path, HOUSE[path]) == []


@pytest.mark.parametrize("path", HOUSE)
def test_nothing_runs_at_import(path):
    assert runs_at_import(path, HOUSE[path]) == []


@pytest.mark.parametrize("path", PROJECT)
def test_functions_and_classes_are_small(path):
    assert too_large(path, PROJECT[path]) == []


def test_contributing_names_files_that_exist():
    named = re.findall(r"`([\w./-]+\.(?:py|sh|html|md))`", CONTRIBUTING.read_text())
    assert [name for name in named if not (ROOT / name).is_file()] == []


# ----------------------------------------------------------------------- the rules find bad sources


@pytest.mark.parametrize("line", ["import losses", "from losses import norm", "import common",
                                  "def f():\n    import train", "from train import main as m"])
def test_a_foreign_import_is_found(line):
    modules = {"igr", "igr.a", "igr.b", "helper", "losses", "train", "common"}
    fine = "import helper\nfrom helper import UserError\nimport numpy\nfrom igr import b, c"
    assert foreign_imports({"igr/a.py": fine}, modules) == []
    assert len(foreign_imports({"igr/a.py": f"{fine}\n{line}"}, modules)) == 1


@pytest.mark.parametrize("line", ["import train", "from train import main",
                                  "def f():\n    from train import main"])
def test_an_imported_script_is_found(line):
    modules = {"train", "infer", "igr", "igr.a"}
    for path in ("infer.py", "helper.py", "igr/a.py", "igr/field/a.py"):
        assert len(script_imports({path: line}, modules)) == 1
    for path in ("tests/test_a.py", "benchmarks/speed/a.py", COMPOSER):
        assert script_imports({path: line}, modules) == []


@pytest.mark.parametrize("back", ["from igr import a", "import igr.a", "from igr.a import x",
                                  "from . import a", "from .a import x",
                                  "def f():\n    from igr import a"])
def test_a_cycle_is_found(back):
    files = {"igr/__init__.py": "", "igr/a.py": "from igr import b", "igr/b.py": "import igr.c",
             "igr/c.py": "import helper", "helper.py": "", "train.py": "from igr import a"}
    modules = {module_of(path) for path in files}
    order, cycle = layers(files, modules)
    assert cycle == [] and order.index("helper") < order.index("igr.c") < order.index("igr.a")
    assert order[-1] == "train"
    order, cycle = layers({**files, "igr/c.py": back}, modules)
    assert cycle == ["igr.a", "igr.b", "igr.c", "train"] and order == ["helper", "igr"]


def test_a_forbidden_arrow_is_found():
    modules = {"igr", "igr.field", "igr.field.a", "igr.training", "igr.training.b", "helper"}
    files = {"igr/field/a.py": "import helper", "igr/training/b.py": "from igr.field import a"}
    assert forbidden_arrows(files, modules) == []
    for line in ("from igr.training import b", "from igr.training.b import x"):
        assert len(forbidden_arrows({**files, "igr/field/a.py": line}, modules)) == 1


@pytest.mark.parametrize("text", [
    "def f():\n    return args.x",
    "class A:\n    def f(self):\n        return args",
    "def f():\n    def g():\n        return args\n    return g",
    "def f(x):\n    global args\n    return args",
    "def f(n):\n    return [args for _ in range(n)]"])
def test_a_global_args_is_found(text):
    assert reads_global_args("a.py", text) != []


@pytest.mark.parametrize("text", [
    "def f(args):\n    return args.x",
    "def f(*args):\n    return [args for _ in args]",
    "def f():\n    args = 1\n    return args",
    "def f(args):\n    def g():\n        return args\n    return g",
    "def f(x):\n    return x.args",
    "if __name__ == '__main__':\n    args = parse_args()\n    print(args)"])
def test_args_of_its_own_is_no_global(text):
    assert reads_global_args("a.py", text) == []


@pytest.mark.parametrize("line", [
    "print('hello')", "for i in range(3):\n    x = i", "import os\nos.environ['A'] = '1'",
    "import os\nos.sep, x = 1, 2", "if x:\n    import y", "with open('a') as f:\n    pass",
    "try:\n    import x\nexcept ImportError:\n    pass", "x += 1", "del x", "assert x",
    "if __name__ == '__main__':\n    pass\nelse:\n    x = 1", "if __name__ != 'a':\n    f()"])
def test_what_runs_at_import_is_found(line):
    fine = ('"""Docstring."""\nfrom a import b\nX, Y = 1, b(2)\nZ: int = 3\n@b\ndef f():\n    b()\n'
            'class C:\n    x = b()\nif TYPE_CHECKING:\n    import c\n'
            'if __name__ == "__main__":\n    f()\n')
    assert runs_at_import("igr/a.py", fine) == []
    assert len(runs_at_import("igr/a.py", fine + line)) == 1


@pytest.mark.parametrize("path", sorted(ONE_CALL))
def test_one_call_is_allowed_in_some_files(path):
    assert runs_at_import(path, "import a\na.b()") == []
    assert len(runs_at_import(path, "import a\na.b()\na.c()")) == 1


def test_length_is_found():
    for head in ("def f():", "async def f():"):
        body = "\n".join([head, *["    x = 1"] * (FUNCTION_LINES - 1)])
        assert too_large("a.py", body) == []
        assert len(too_large("a.py", f"{body}\n    x = 1")) == 1
        assert too_large("a.py", f"@threads.compiled()\n{body}\n    x = 1") == []


@pytest.mark.parametrize("given", ["a, b, c, d, e, f", "self, a, b, *, c, d, e, f=1"])
def test_parameters_are_counted(given):
    assert too_large("a.py", f"def g({given}): pass") == []
    assert len(too_large("a.py", f"def g({given}, more=1): pass")) == 1


def test_mutable_fields_are_counted():
    body = "class A:\n    def __init__(self):\n        self.z = 1\n    def f(self):\n"
    body += "".join(f"        self.a{i} = {i}\n" for i in range(FIELDS))
    assert too_large("a.py", body) == []
    assert len(too_large("a.py", body + "        self.b, x = 1, 2\n")) == 1


HEADS = ["for x in y:", "while x:", "if x:", "with x:", "try:"]


def nested(heads) -> str:
    """The source of a function with a block in a block for each head."""
    lines, tails = ["def f():"], []
    for depth, head in enumerate(heads, 1):
        lines.append("    " * depth + head)
        if head == "try:":
            tails.insert(0, "    " * depth + "finally:\n" + "    " * (depth + 1) + "pass")
    lines.append("    " * (len(heads) + 1) + "pass")
    return "\n".join([*lines, *tails])


@pytest.mark.parametrize("head", HEADS)
def test_every_block_nests(head):
    for heads in ([head] * NESTING, [*HEADS[: NESTING - 1], head]):
        assert too_large("a.py", nested(heads)) == []
        found = too_large("a.py", nested([*heads, head]))
        assert found == [f"a.py:1: f is nested {NESTING + 1} deep"]


@pytest.mark.parametrize("text, depth", [
    ("if a:\n  pass\nelif b:\n  pass\nelif c:\n  pass\nelse:\n  pass", 1),
    ("if a:\n  pass\nelse:\n  if b:\n    pass", 2),
    ("if a:\n  pass\nelif b:\n  for x in y:\n    pass", 2),
    ("try:\n  pass\nexcept E:\n  if a:\n    pass\nelse:\n  for x in y:\n    if z:\n      pass", 3),
    ("for x in y:\n  def g():\n    if a:\n      if b:\n        pass", 1),
    ("x = [a for a in b if a for c in a]", 0)])
def test_nesting_of_special_blocks(text, depth):
    assert nesting(ast.parse(text)) == depth
