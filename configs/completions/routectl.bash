# routectl in bash: source <(routectl completion bash)
_routectl() {
    local line="${COMP_LINE:0:COMP_POINT}" word candidates
    word="${line##* }"
    mapfile -t candidates < <(routectl --complete "$line" 2>/dev/null | cut -f1)
    COMPREPLY=("${candidates[@]}")
    # bash breaks words at colons, as in fe80::1: what stands before the last one is there already.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -o default -F _routectl routectl
