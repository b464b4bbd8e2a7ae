export const shells = ['bash', 'zsh'] as const;
export type Shell = (typeof shells)[number];

/** What each shell reads. Both ask the command itself what the last word may become, so that they never fall behind. */
export const completionScripts: Readonly<Record<Shell, string>> = {
  bash: `# Completion of armature for bash: source <(armature completion bash)
_armature() {
  local line=\${COMP_LINE:0:COMP_POINT} word
  local current=\${line##*[[:space:]]}
  # Bash takes a colon for the end of a word, so what is before the last one is there already.
  local before=
  [[ $COMP_WORDBREAKS == *:* && $current == *:* ]] && before=\${current%:*}:
  COMPREPLY=()
  while IFS= read -r word; do
    COMPREPLY+=("\${word#"$before"}")
  done < <("$1" __complete "$line" 2>/dev/null)
}
complete -o default -F _armature armature
`,
  zsh: `#compdef armature
# Completion of armature for zsh, after compinit: source <(armature completion zsh)
_armature() {
  local -a found
  found=("\${(@f)$("\${words[1]}" __complete "\${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
  found=(\${found:#})
  if (( \${#found} )); then
    compadd -- "\${found[@]}"
  else
    _files
  fi
}
# As a file of fpath it is loaded by the first completion, which it then completes.
if [[ \${funcstack[1]} == _armature ]]; then
  _armature "$@"
else
  compdef _armature armature
fi
`,
};
