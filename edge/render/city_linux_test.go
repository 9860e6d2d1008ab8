package render

import (
	"strings"
	"testing"
)

// The texts are what nft and FRR take.
func TestTextsAreAccepted(t *testing.T) {
	needRoot(t)
	ns := space(t, "c")
	for name, in := range map[string]Input{"ward": ward(), "hub": hub(), "first boot": {}} {
		box := mustNew(t, in)
		if _, err := try(box.NFT, "ip", "netns", "exec", ns, "nft", "-c", "-f", "-"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		run(t, box.NFT, "ip", "netns", "exec", ns, "nft", "-f", "-")
		run(t, box.NFT, "ip", "netns", "exec", ns, "nft", "-f", "-") // replaces itself
		if box.FRR == "" {
			continue
		}
		file := t.TempDir() + "/frr.conf"
		run(t, box.FRR, "cp", "/dev/stdin", file)
		if out, err := try("", "vtysh", "-C", "-f", file); err != nil || strings.Contains(out, "%") {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}
