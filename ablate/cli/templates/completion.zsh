#compdef ablate
# Completion of the command ablate in zsh. In ~/.zshrc, after compinit:  source <(ablate completion zsh)
_ablate() {
    local -a found open closed
    found=("${(@f)$("${words[1]/#\~/$HOME}" complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    open=(${(M)found:#*=}) # a value follows: no space behind
    closed=(${found:#*=})
    if (( ! $#open && ! $#closed )); then
        _files
        return
    fi
    (( $#open )) && compadd -S '' -- $open
    (( $#closed )) && compadd -- $closed
    return 0
}
if [[ $funcstack[1] == _ablate ]]; then
    _ablate "$@"
else
    compdef _ablate ablate
fi
