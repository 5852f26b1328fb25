#!/bin/bash
# in the guest
d=/w/target/x86_64-unknown-linux-musl/debug
export WHARF_BIN=$d/wharf WHARF_PAYLOAD=$d/payload WHARF_PATIENCE=5 WHARF_E2E_PEERS=no
e=/w/target/debug/deps/$1; shift
st=0
for f; do timeout 500 $e "$f" 2>&1 || st=1; done; exit $st
