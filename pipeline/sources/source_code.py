"""Whether a row holds source code, by what it says of its file and its language.

Sets of code name the file (`path`, `max_stars_repo_path`), its suffix (`ext`) or the language of
programming (`lang`, `language`). The same fields name a natural language in other sets (`en`,
`English`), and a text in a code repository (`README.md`) is no code. Where prose comes from such a
file as often (`.html`, `.xml`, `.json`, `.tex`), the language decides.
"""

from collections.abc import Iterable


def _set(names: str) -> frozenset[str]:
    """The names that `|` separates, or blanks where there is no `|`."""
    return frozenset(names.split("|") if "|" in names else names.split())


_SUFFIXES = _set(
    "4th abap ada adb ads agda as asm awk bas bash bat c c++ cbl cc cjs cl clj cljc cljs cls "
    "cmake cmd cob coffee cpp cr cs css cu cuh cxx d dart diff dockerfile dpr ejs el elm erb erl "
    "ex exs f f03 f08 f77 f90 f95 fish for frag fs fsi fsx fth gd glsl go gradle graphql groovy "
    "h h++ haml hbs hcl hh hlsl hpp hrl hs hx hxx i idr inl ino ipynb j2 java jinja jl js jsp "
    "jsx kt kts lean less lhs lisp ll lua m mak mat metal mjs mk ml mli mm move mustache nim nix "
    "nut pas patch php pl pm pp proto ps1 psm1 pug py pyi pyx qml r rake rb rkt rs s sas sass sc "
    "scala scm scss sed sh sld sml sol sql ss st sv svelte swift tcl tf thrift ts tsx twig v vb "
    "vert vhd vhdl vim vue vy wat wgsl wl xsl xslt yy zig zsh"
)
_TEXT_SUFFIXES = frozenset(
    ["txt", "md", "markdown", "mdx", "rst", "adoc", "asciidoc", "org", "text"]
)
_FILES = _set(
    "Makefile makefile GNUmakefile Dockerfile CMakeLists.txt Rakefile Gemfile Jenkinsfile "
    "Vagrantfile Procfile BUILD WORKSPACE configure Brewfile Podfile .bashrc .profile"
)
"""Names of files of code that no suffix shows."""

_LANGUAGES = _set(
    "abap|ada|agda|apex|applescript|arduino|assembly|autohotkey|awk|bash|basic|batch|batchfile|"
    "bison|blitzmax|c|c#|c++|c-sharp|clojure|cmake|cobol|coffeescript|common lisp|common-lisp|coq|"
    "cpp|crystal|csharp|css|cuda|cython|d|dart|delphi|dockerfile|elixir|elm|emacs lisp|"
    "emacs-lisp|erlang|f#|f-sharp|fortran|fsharp|gdscript|glsl|go|golang|gradle|graphql|groovy|"
    "haskell|haxe|hcl|hlsl|html|idris|ini|isabelle|java|java server pages|javascript|json|jsx|"
    "julia|jupyter notebook|jupyter-notebook|kotlin|latex|lean|less|lisp|literate haskell|llvm|"
    "lua|makefile|mathematica|matlab|nim|nix|objective-c|objective-c++|objectivec|ocaml|opencl|"
    "pascal|perl|php|plsql|postscript|powershell|processing|prolog|protobuf|protocol buffer|"
    "purescript|python|python3|qml|r|racket|reason|ruby|rust|sas|sass|scala|scheme|scss|shell|"
    "smalltalk|solidity|sql|standard ml|standard-ml|stata|svelte|swift|systemverilog|tcl|"
    "terraform|tex|toml|tsx|typescript|vb.net|verilog|vhdl|vim script|viml|visual basic|"
    "visual-basic|vue|wolfram|xml|xslt|yacc|yaml|zig"
)
_ALSO_NATURAL = frozenset(
    ["ada", "awk", "css", "elm", "lua", "nim", "nix", "sas", "tcl", "tex", "vue", "xml", "sql"]
)
"""Codes of three letters in ISO 639-3 (or likely to be one): code only where they are written
otherwise, as `Lua`."""


def is_source_code(
    paths: Iterable[object], suffixes: Iterable[object], languages: Iterable[object]
) -> bool:
    """Whether a row is source code by its paths, suffixes and languages, in this order; values of
    other types than text count as absent."""
    for path in paths:
        if isinstance(path, str) and path and "://" not in path:
            name = path.replace("\\", "/").rpartition("/")[2]
            if name in _FILES:
                return True
            named = "." in name and " " not in name
            known = _by_suffix(name.rpartition(".")[2]) if named else None
            if known is not None:
                return known
    for suffix in suffixes:
        if isinstance(suffix, str):
            known = _by_suffix(suffix.removeprefix("."))
            if known is not None:
                return known
    return any(isinstance(language, str) and _is_programming(language) for language in languages)


def _by_suffix(suffix: str) -> bool | None:
    """What a suffix says; None where it is unknown."""
    suffix = suffix.lower()
    if suffix in _SUFFIXES:
        return True
    return False if suffix in _TEXT_SUFFIXES else None


def _is_programming(language: str) -> bool:
    name = language.strip()
    return name.lower() in _LANGUAGES and name not in _ALSO_NATURAL
