package redact

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// planted are secrets as devices write them; § is the secret's place.
var planted = map[string]string{
	"frr bgp":            " neighbor 10.0.0.1 password §",
	"frr vty":            "password §",
	"frr enable":         "enable password 8 §",
	"ospf md5":           " ip ospf message-digest-key 1 md5 §",
	"ospf simple":        " ip ospf authentication-key §",
	"key chain":          "  key-string §",
	"ios enable":         "enable secret 9 §",
	"ios user":           "username an privilege 15 secret 5 §",
	"ios type 7":         "username an password 7 §",
	"isakmp":             "crypto isakmp key § address 0.0.0.0",
	"ikev2":              "  pre-shared-key local §",
	"radius":             "radius-server host 10.0.0.2 key 7 §",
	"tacacs":             "tacacs-server key §",
	"ntp":                "ntp authentication-key 1 md5 § 7",
	"snmp":               "snmp-server community § RO",
	"snmp user":          "snmp-server user ops grp v3 auth sha § priv aes 128 §",
	"fortios psk":        "        set psksecret ENC §",
	"fortios password":   "        set passwd ENC §",
	"wireguard":          "PrivateKey = §",
	"wireguard psk":      "PresharedKey=§",
	"uapi":               "private_key=§",
	"json":               `  "password": "§",`,
	"json list":          `{"name":"x","client_secret":"§","port":1}`,
	"yaml":               "api_key: §",
	"xml":                "<auth-password>§</auth-password>",
	"ipsec.secrets":      `: PSK "§"`,
	"wifi":               "wpa_psk=§",
	"wifi ios":           " wpa-psk ascii 0 §",
	"url":                "server https://ops:§@10.0.0.9/x",
	"bearer":             "Authorization: Bearer §",
	"ppp":                " ppp chap password 0 §",
	"quoted with blanks": `set password "a § b"`,
}

func newRedactor(t testing.TB) *Redactor {
	t.Helper()
	r, err := New(bytes.Repeat([]byte{7}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlantedSecretsAreGone(t *testing.T) {
	r := newRedactor(t)
	for name, line := range planted {
		for _, secret := range []string{"hunter2hunter2", "Zx9+/=aB3dE", "0822455D0A16"} {
			text := r.Text("hostname x\n" + strings.ReplaceAll(line, "§", secret) + "\nend\n")
			if strings.Contains(text, secret) || !strings.Contains(text, "<redacted-") {
				t.Errorf("%s: %q", name, text)
			}
			if twice := r.Text(text); twice != text {
				t.Errorf("%s: not idempotent: %q, then %q", name, text, twice)
			}
			if !strings.HasPrefix(text, "hostname x\n") || !strings.HasSuffix(text, "\nend\n") {
				t.Errorf("%s: the other lines changed: %q", name, text)
			}
		}
	}
	for name, text := range map[string]string{
		"crypt":   "x $6$saltsalt$abcdefghijklmnop y",
		"type 9":  "something $9$2MJBozw/9R3UsU$2lFhcKvpghcyw8deP25 y",
		"jwt":     "x eyJhbGciOiJub25l.eyJzdWIiOiIxMjM0.c2ln y",
		"pem":     "set private-key \"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIabc\ndef\n-----END ENCRYPTED PRIVATE KEY-----\"\nnext\n",
		"cut pem": "-----BEGIN EC PRIVATE KEY-----\nMIIabc\ndef",
	} {
		got := r.Text(text)
		for _, s := range []string{"abcdefghijklmnop", "2lFhcKvpghcyw8deP25", "eyJzdWIiOiIxMjM0", "MIIabc"} {
			if strings.Contains(got, s) {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	r := newRedactor(t)
	text := strings.Join([]string{
		"router bgp 4200000001", " neighbor 10.0.0.1 remote-as 65001", " bgp community-list standard x permit 65000:1",
		"ip route 0.0.0.0/0 10.0.0.1", "interface eth0", ` "from": "staff",`, "tcp dport 443 accept", "no service password-encryption", "set comm-list",
		`"key_id": "rev-1"`, "public key", "crypto key generate",
	}, "\n")
	got := r.Text(text)
	if i := strings.Index(got, "<redacted-"); i >= 0 && !strings.Contains(text, "community-list") {
		t.Errorf("%q", got)
	}
	for _, line := range []string{" neighbor 10.0.0.1 remote-as 65001", "no service password-encryption", `"key_id": "rev-1"`, "tcp dport 443 accept"} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is gone from %q", line, got)
		}
	}
}

func TestFingerprints(t *testing.T) {
	r := newRedactor(t)
	a, b := r.Text("password alpha-one"), r.Text("password alpha-one")
	if a != b || a == r.Text("password alpha-two") {
		t.Error("equal secrets must look equal, others must not")
	}
	other, err := New(bytes.Repeat([]byte{8}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	if a == other.Text("password alpha-one") {
		t.Error("the fingerprint does not depend on the key")
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		once := r.Text(text)
		if twice := r.Text(once); once != twice {
			t.Fatalf("not idempotent: %q, %q", once, twice)
		}
	})
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fingerprint.key")
	a, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(path)
	if err != nil || a.Fingerprint("x") != b.Fingerprint("x") {
		t.Fatalf("the key changed: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a damaged key was taken")
	}
}

func FuzzText(f *testing.F) {
	r := newRedactor(f)
	for _, line := range planted {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := r.Text(text)
		if strings.Count(once, "\n") > strings.Count(text, "\n") {
			t.Errorf("lines were added: %q", once)
		}
	})
}
