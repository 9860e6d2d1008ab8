package redact

import "regexp"

// value is a secret as it stands in a line: quoted, or up to the next blank.
const value = `(<redacted-[0-9a-f]{16}>|"(?:[^"\\]|\\.)+"|'[^']+'|[^\s"'<;,]+)`

// kind is how vendors say in which way the secret itself is written: a number
// (Cisco types 0 to 9), ENC (FortiOS) or a name.
const kind = `(?:(?:[0-9]|ENC|encrypted|encrypted-password|hash|md5|sha|sha256|ascii-text|ascii|hex|cleartext|plaintext|local|remote)\s+)*`

// pem is a private key, whatever is between its lines.
var pem = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)

// suspicious says whether a line may hold a secret at all; every pattern below
// needs one of these words.
var suspicious = regexp.MustCompile(`(?i)pass|secret|key|psk|community|token|auth|priv|://|\$[0-9a-z]{1,2}\$|eyJ|bearer|snmp`)

// patterns find secrets; each group of each is one. They are data: what is
// missing is added here, with a line in the test.
var patterns = []*regexp.Regexp{
	// Passwords and secrets of users and lines (FRR, IOS, FortiOS, PPP).
	regexp.MustCompile(`(?i)\b(?:password|passwd|passphrase|secret|psksecret|auth-pwd|priv-pwd|ppk-secret|group-password)\s+` + kind + value),
	// Keys shared with peers: BGP, OSPF, RADIUS, TACACS+, NTP, key chains, IKE.
	regexp.MustCompile(`(?i)\b(?:key-string|authentication-key|message-digest-key)\s+(?:[0-9]+\s+)?` + kind + value),
	regexp.MustCompile(`(?i)\bpre-shared-key\s+` + kind + value),
	regexp.MustCompile(`(?i)\b(?:isakmp|server|radius|tacacs|shared)\b.*?\bkey\s+` + kind + value),
	regexp.MustCompile(`(?i)^\s*(?:set\s+)?key\s+` + kind + value + `\s*$`),
	regexp.MustCompile(`(?i)\bwpa-psk\s+` + kind + value),
	// SNMP: communities and users (RFC 3414).
	regexp.MustCompile(`(?i)\bcommunity\s+` + kind + value),
	regexp.MustCompile(`(?i)\bsnmp.*?\bauth\s+(?:md5|sha[0-9-]*)\s+` + value + `(?:\s+priv\s+(?:des|3des|aes)(?:\s+(?:128|192|256))?\s+` + value + `)?`),
	// Settings: name = value, name: value, JSON members and XML elements.
	regexp.MustCompile(`(?i)["']?[\w-]*(?:password|passwd|passphrase|secret|private[_-]?key|preshared[_-]?key|psk|community|token|api[_-]?key)["']?\s*[:=]\s*` + value),
	regexp.MustCompile(`(?i)<(?:\w+:)?[\w-]*(?:password|passphrase|secret|private-key|pre-shared-key|key-string|community|token)[^>]*>([^<]+)</`),
	regexp.MustCompile(`(?i):\s*(?:PSK|EAP|XAUTH)\s+` + value), // ipsec.secrets
	// What is a secret wherever it stands: crypt(5) hashes, bearer tokens, JSON
	// Web Tokens (RFC 7519) and the user part of a URL (RFC 3986 §3.2.1).
	regexp.MustCompile(`(\$(?:1|2[abxy]?|5|6|7|8|9|y|gy|sha1|argon2\w*)\$[./A-Za-z0-9$=,+-]{8,})`),
	regexp.MustCompile(`(?i)\bbearer\s+` + value),
	regexp.MustCompile(`\b(eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)`),
	regexp.MustCompile(`://[^/\s:@]*:([^\s@]+)@`),
	regexp.MustCompile(`(?i)\b(?:api-key|token)\s+` + kind + value),
}
