package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

var completionShells = []string{"bash", "fish", "zsh"}

func runCompletion(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "completion bash|zsh|fish", `Print a script that has a shell complete the commands of mcpool:

  bash   source <(mcpool completion bash)            in ~/.bashrc
  zsh    source <(mcpool completion zsh)             in ~/.zshrc, after compinit
  fish   mcpool completion fish | source             in ~/.config/fish/config.fish`)
	if err := f.parse(args, 1); err != nil {
		return err
	}
	if len(f.arguments) == 0 || !slices.Contains(completionShells, f.arguments[0]) {
		return usagef("which shell? There are %s", strings.Join(completionShells, ", "))
	}
	commands := describedCommands(ctx)
	switch f.arguments[0] {
	case "bash":
		completeBash(std.out, commands)
	case "fish":
		completeFish(std.out, commands)
	case "zsh":
		completeZsh(std.out, commands)
	}
	return nil
}

// topLevel are the names of the commands that are not those of another.
func topLevel(commands []described) (names []string) {
	for _, c := range commands {
		if c.short != "" {
			names = append(names, c.name)
		}
	}
	return names
}

func completeBash(w io.Writer, commands []described) {
	fmt.Fprintf(w, `# completion of mcpool for bash
_mcpool() {
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} flags= words= files=
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W "%s help" -- "$current"))
		return
	fi
	if [ "$COMP_CWORD" -gt 2 ]; then
		case "$command ${COMP_WORDS[2]}" in
`, strings.Join(topLevel(commands), " "))
	for _, c := range commands {
		if c.short == "" {
			fmt.Fprintf(w, "\t\t%q) command=%q ;;\n", c.name, c.name)
		}
	}
	fmt.Fprint(w, "\t\tesac\n\tfi\n\tcase \"$command\" in\n")
	for _, c := range commands {
		var flags, takes, files []string
		for _, f := range c.all() {
			flags = append(flags, "--"+f.name)
			if f.takesFile() {
				files = append(files, "--"+f.name)
			} else if f.value != "" {
				takes = append(takes, "--"+f.name)
			}
		}
		fmt.Fprintf(w, "\t%q)\n\t\tflags=%q words=%q\n", c.name, strings.Join(flags, " "), strings.Join(c.words, " "))
		if len(files)+len(takes) > 0 {
			fmt.Fprint(w, "\t\tcase \"$before\" in\n")
			if len(files) > 0 {
				fmt.Fprintf(w, "\t\t%s) COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n", strings.Join(files, "|"))
			}
			if len(takes) > 0 {
				fmt.Fprintf(w, "\t\t%s) return ;;\n", strings.Join(takes, "|"))
			}
			fmt.Fprint(w, "\t\tesac\n")
		}
		fmt.Fprint(w, "\t\t;;\n")
	}
	fmt.Fprint(w, `	esac
	case "$current" in
	-*) COMPREPLY=($(compgen -W "$flags --help" -- "$current")) ;;
	*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
	esac
}
complete -F _mcpool mcpool
`)
}

func completeFish(w io.Writer, commands []described) {
	quote := func(text string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
	}
	fmt.Fprint(w, "# completion of mcpool for fish\ncomplete -c mcpool -f\n")
	for _, c := range commands {
		if c.short != "" {
			fmt.Fprintf(w, "complete -c mcpool -n __fish_use_subcommand -a %s -d %s\n", c.name, quote(c.short))
		}
		when := "__fish_seen_subcommand_from " + strings.ReplaceAll(c.name, " ", "; and __fish_seen_subcommand_from ")
		for _, word := range c.words {
			fmt.Fprintf(w, "complete -c mcpool -n %s -a %s\n", quote(when), word)
		}
		for _, f := range c.all() {
			takes := ""
			switch {
			case f.takesFile():
				takes = " -r -F"
			case f.value != "":
				takes = " -x"
			}
			fmt.Fprintf(w, "complete -c mcpool -n %s -l %s%s -d %s\n", quote(when), f.name, takes, quote(f.usage))
		}
	}
}

func completeZsh(w io.Writer, commands []described) {
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	inSpec := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`)
	fmt.Fprint(w, "#compdef mcpool\n# completion of mcpool for zsh\n_mcpool() {\n\tlocal -a commands\n\tcommands=(\n")
	for _, c := range commands {
		if c.short != "" {
			fmt.Fprintf(w, "\t\t%s\n", quote(c.name+":"+strings.ReplaceAll(c.short, ":", `\:`)))
		}
	}
	fmt.Fprint(w, `	)
	if (( CURRENT == 2 )); then
		_describe -t commands command commands
		return
	fi
	shift words
	(( CURRENT-- ))
	local command=$words[1]
	if (( CURRENT > 2 )); then
		case "$command $words[2]" in
`)
	for _, c := range commands {
		if c.short == "" {
			fmt.Fprintf(w, "\t\t(%s) command=%s ;;\n", quote(c.name), quote(c.name))
		}
	}
	fmt.Fprint(w, "\t\tesac\n\tfi\n\tcase \"$command\" in\n")
	for _, c := range commands {
		argument := "*:argument:"
		if len(c.words) > 0 {
			argument = "*:argument:(" + strings.Join(c.words, " ") + ")"
		}
		fmt.Fprintf(w, "\t(%s)\n\t\t_arguments %s", quote(c.name), quote(argument))
		for _, f := range c.all() {
			spec := "--" + f.name + "[" + inSpec.Replace(f.usage) + "]"
			switch {
			case f.takesFile():
				spec += ":file:_files"
			case f.value != "":
				spec += ":" + inSpec.Replace(f.value) + ":"
			}
			fmt.Fprintf(w, " \\\n\t\t\t%s", quote(spec))
		}
		fmt.Fprint(w, "\n\t\t;;\n")
	}
	fmt.Fprint(w, `	esac
}
if [[ $funcstack[1] == _mcpool ]]; then
	_mcpool "$@"
else
	compdef _mcpool mcpool
fi
`)
}
