# Completion of the command ablate in bash. In ~/.bashrc:  source <(ablate completion bash)
_ablate() {
    local line="${COMP_LINE:0:COMP_POINT}" current found IFS=$' \t\n' i
    local -a words
    read -ra words <<<"$line" # of readline's own words, norm=rmsnorm would be three
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]}-1]}"
    COMPREPLY=()
    while IFS= read -r found; do
        # readline replaces only what stands behind the last =
        [[ $current == *=* && $COMP_WORDBREAKS == *=* ]] && found="${found#"${current%"${current##*=}"}"}"
        COMPREPLY+=("$found")
    done < <("${words[0]/#\~/$HOME}" complete -- "${words[@]:1}" 2>/dev/null)
    for i in "${COMPREPLY[@]}"; do
        [[ $i == *= ]] && compopt -o nospace 2>/dev/null # a value follows
    done
    return 0
}
complete -o default -F _ablate ablate
