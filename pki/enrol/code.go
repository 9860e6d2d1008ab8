package enrol

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// Ticket is a bundle short enough for a QR code: the root is named by its
// fingerprint and fetched, and there are no WAN ports. It holds a secret like
// a bundle.
type Ticket struct {
	EnrolURL string
	Root     [sha256.Size]byte // of the root certificate, DER
	Device   inventory.DeviceID
	Serial   string
	Token    string
}

// ticketScheme begins a ticket's text.
const ticketScheme = "wardnet"

// maxTicket bounds a ticket's text, in bytes.
const maxTicket = 2048

// TicketOf is the ticket of a bundle.
func TicketOf(b Bundle) (Ticket, error) {
	if err := b.Validate(); err != nil {
		return Ticket{}, err
	}
	root, err := parseCertificates([]byte(b.RootPEM))
	if err != nil {
		return Ticket{}, err
	}
	return Ticket{EnrolURL: b.EnrolURL, Root: sha256.Sum256(root[0].Raw), Device: b.Device, Serial: b.Serial, Token: b.Token}, nil
}

// Text is what the QR code says.
func (t Ticket) Text() string {
	v := url.Values{
		"e": {t.EnrolURL}, "r": {base64.RawURLEncoding.EncodeToString(t.Root[:])}, "d": {string(t.Device)}, "s": {t.Serial}, "t": {t.Token},
	}
	return ticketScheme + ":1?" + v.Encode()
}

// String keeps the token out of logs.
func (t Ticket) String() string {
	return fmt.Sprintf("enrolment ticket of %s for %s", t.Device, t.EnrolURL)
}

// ParseTicket reads a ticket's text. No error holds a part of it.
func ParseTicket(text string) (Ticket, error) {
	bad := func(what string) (Ticket, error) {
		return Ticket{}, fmt.Errorf("%w: enrolment code: %s; scan it again", inventory.ErrInvalid, what)
	}
	text = strings.TrimSpace(text)
	query, ok := strings.CutPrefix(text, ticketScheme+":1?")
	if !ok || len(text) > maxTicket {
		return bad("it is none of ours")
	}
	v, err := url.ParseQuery(query)
	if err != nil {
		return bad("it is damaged")
	}
	t := Ticket{EnrolURL: v.Get("e"), Device: inventory.DeviceID(v.Get("d")), Serial: v.Get("s"), Token: v.Get("t")}
	root, err := base64.RawURLEncoding.Strict().DecodeString(v.Get("r"))
	if err != nil || len(root) != len(t.Root) {
		return bad("the root's fingerprint is damaged")
	}
	t.Root = [sha256.Size]byte(root)
	u, err := url.Parse(t.EnrolURL)
	if err != nil || u.Scheme != "https" || u.Host == "" || !segment.MatchString(string(t.Device)) || t.Serial == "" || t.Token == "" {
		return bad("something is missing or damaged")
	}
	return t, nil
}

// Bundle fetches the root certificate that the ticket names and gives the
// bundle. Nothing secret is sent, and nothing but the certificate with that
// fingerprint is taken.
func (c Client) Bundle(ctx context.Context, t Ticket) (Bundle, error) {
	b, err := c.fetchRoot(ctx, t)
	if err != nil {
		return Bundle{}, fmt.Errorf("fetch the root certificate for %s from %s: %w", t.Device, t.EnrolURL, err)
	}
	return b, b.Validate()
}

func (c Client) fetchRoot(ctx context.Context, t Ticket) (Bundle, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*c.timeout())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(t.EnrolURL, "/")+"/root.pem", nil)
	if err != nil {
		return Bundle{}, err
	}
	quiet := &leg{client: Client{Dial: c.Dial, Resolve: c.Resolve, Timeout: c.timeout()}}
	transport := &http.Transport{
		// The root is what connections are verified with; until it is here its
		// fingerprint has to do.
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true},
		Proxy:           http.ProxyFromEnvironment, DialContext: quiet.dial, DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return Bundle{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return Bundle{}, err
	}
	block, _ := pem.Decode(text)
	if resp.StatusCode != http.StatusOK || block == nil {
		return Bundle{}, fmt.Errorf("%w: %s, and no certificate", errBusy, resp.Status)
	}
	if sum := sha256.Sum256(block.Bytes); subtle.ConstantTimeCompare(sum[:], t.Root[:]) != 1 {
		return Bundle{}, &causeError{CauseCAUnknown, errors.New("the controller there has another root certificate than the code names; it is none of ours, or was set up anew")}
	}
	return Bundle{EnrolURL: t.EnrolURL, RootPEM: string(pem.EncodeToMemory(block)), Device: t.Device, Serial: t.Serial, Token: t.Token}, nil
}
