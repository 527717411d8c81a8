# routectl in fish: routectl completion fish > ~/.config/fish/completions/routectl.fish
complete -c routectl -e
complete -c routectl -f -a '(routectl --complete (commandline -cp | string collect) 2>/dev/null)'
complete -c routectl -n '__fish_seen_subcommand_from import' -F
