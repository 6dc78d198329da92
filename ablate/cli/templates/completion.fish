# Completion of the command ablate in fish. In ~/.config/fish/config.fish:  ablate completion fish | source
function __ablate_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    command $program complete -- $words "$current" 2>/dev/null
end
complete -c ablate -f -a '(__ablate_complete)'
