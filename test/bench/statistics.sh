# Figures of several rounds; sourced by the bench scripts.

# median VALUE...; extremes VALUE...; ratio A B
median() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
extremes() { printf '%s\n' "$@" | sort -n | sed -n '1p;$p' | paste -sd-; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }
