set -e
cd /tmp/wt/kernel/transform/native
Z="env PYTHONPATH=/tmp/kernel/zig python3 -m ziglang cc -O3 -std=c11 -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-stack-check -fno-sanitize=all -nostdlib -fPIC -fvisibility=hidden"
T="-target x86_64-linux-gnu"
o=""
for l in v1:x86_64 v3:x86_64_v3 v4:x86_64_v4; do $Z $T -march=${l#*:} $([ $l = v1:x86_64 ] || echo -mpclmul) -DLEVEL=_${l%:*} $EXTRA -c kernel.c -o /tmp/kernel/${l%:*}.o; o="$o /tmp/kernel/${l%:*}.o"; done
$Z $T -c cpu.c -o /tmp/kernel/cpu.o
$Z $T -shared $o /tmp/kernel/cpu.o -s -o ${OUT:-libkernel.so}
