#!/bin/sh
# Says at once, before anything is installed, when this machine cannot get the Node that the project runs on.
need="Armature needs Node 24.14 or newer. Install it from https://nodejs.org, then run the command again."

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "Node.js with npm is not installed (any Node from 20 on will do on Linux: the packages bring Node 24)." >&2
  echo "$need" >&2
  exit 1
fi

# For these platforms the packages bring Node themselves.
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64 | Linux-aarch64 | Linux-arm64) exit 0 ;;
esac

if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 24 || (a === 24 && b >= 14) ? 0 : 1)'; then
  echo "This machine has Node $(node --version), and the packages bring none for $(uname -s) on $(uname -m)." >&2
  echo "$need" >&2
  exit 1
fi
