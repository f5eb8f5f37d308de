"""Completion for bash and zsh: verbs, their options, words that an option takes, codes, keys."""

BASH = """\
# Completion of sutor for bash, made from the program's own help pages.
_sutor() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
  local verb=${{COMP_WORDS[1]}} words=
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "{verbs} help --help --version" -- "$word")
    return
  fi
  case $verb:$before in
{choices}
    help:*) words="{verbs}" ;;
  esac
  if [[ -z $words && $word == -* ]]; then
    case $verb in
{options}
    esac
  fi
  if [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}}
complete -o nosort -F _sutor sutor
"""

ZSH = """\
#compdef sutor
# Completion of sutor for zsh, made from the program's own help pages.
_sutor() {{
  local -a verbs
  verbs=(
{verbs}
    'help:a page about a verb or a code'
  )
  if ((CURRENT == 2)); then
    _describe verb verbs
    return
  fi
  case ${{words[2]}} in
{options}
    help) _describe verb verbs ;;
    *) _files ;;
  esac
}}
_sutor "$@"
"""


def bash(program, keys=()):
    choices, options = [], []
    for verb in program.verbs:
        for option in verb.options:
            if option.choices:
                choices.append(f'    {verb.name}:{option.name}) words="{" ".join(option.choices)}"'
                               " ;;")
            elif option.name == "--set" and keys and verb.name != "init-model":
                choices.append(f'    {verb.name}:--set) words="{" ".join(f"{k}=" for k in keys)}";'
                               " compopt -o nospace 2>/dev/null ;;")
        names = " ".join(option.name for option in verb.options)
        options.append(f'      {verb.name}) words="{names} --help" ;;')
    return BASH.format(verbs=" ".join(verb.name for verb in program.verbs),
                       choices="\n".join(choices), options="\n".join(options))


def zsh_text(text):
    """In single quotes, inside of brackets: what would end either is taken out or written so."""
    return text.replace("'", "'\\''").replace("[", "(").replace("]", ")").replace(":", "\\:")


def zsh(program):
    verbs = [f"    '{verb.name}:{zsh_text(verb.summary)}'" for verb in program.verbs]
    options = []
    for verb in program.verbs:
        specs = []
        for option in verb.options:
            value = ""
            if option.argument:
                words = f"({' '.join(option.choices)})" if option.choices else "_files"
                value = f":value:{words}"
            repeats = "*" if option.name == "--set" else ""
            specs.append(f"        '{repeats}{option.name}[{zsh_text(option.meaning)}]{value}'")
        lines = " \\\n".join([*specs, "        '--help[the help page]'", "        '*:file:_files'"])
        options.append(f"    {verb.name})\n      shift words; ((CURRENT--))\n      _arguments \\\n"
                       f"{lines}\n      ;;")
    return ZSH.format(verbs="\n".join(verbs), options="\n".join(options))
