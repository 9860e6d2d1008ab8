package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// rounds is how many access requests one chapter asks.
const rounds = 240

func newRevision(message string) client.NewRevision { return client.NewRevision{Message: message} }

func approval(hash string) client.NewApproval {
	return client.NewApproval{Hash: hash, Comment: "Đã xem kế hoạch"}
}

// edgeArgs are the arguments of one wardnet-edge process.
func edgeArgs(file, state string, seed uint64) []string {
	return []string{"run", "--host", "simulated", "--edges", file, "--state", state, "--seed", fmt.Sprint(seed)}
}

// pep is a policy enforcement point: a client certificate of the services
// issuer, and the address to ask.
type pep struct {
	http *http.Client
	url  string
}

func (s *story) newPEP(ctx context.Context) (*pep, error) {
	root, err := os.ReadFile(s.serving.Root)
	if err != nil {
		return nil, err
	}
	domain, err := enrol.TrustDomain(root)
	if err != nil {
		return nil, err
	}
	id, err := enrol.SPIFFEID(domain, "service", "demo-pep")
	if err != nil {
		return nil, err
	}
	key, err := enrol.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := enrol.NewCSR(key, id)
	if err != nil {
		return nil, err
	}
	cert, err := s.security.IssueServiceCertificate(ctx, client.NewServiceCertificate{Name: "demo-pep", CSR: csr})
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(cert.ChainPEM), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert.RootPEM))
	return &pep{
		url: "https://" + s.serving.PEP + "/access/v1/evaluation",
		http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			MaxIdleConnsPerHost: 8, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}},
		}},
	}, nil
}

// answer is the part of an AuthZEN answer the story checks.
type answer struct {
	Decision bool `json:"decision"`
	Context  struct {
		ID   string `json:"id"`
		Code string `json:"code"`
	} `json:"context"`
}

func (p *pep) ask(ctx context.Context, a access) (answer, error) {
	body, err := json.Marshal(map[string]any{
		"subject": map[string]string{"type": "user", "id": a.Subject}, "action": map[string]string{"name": a.Action},
		"resource": map[string]string{"type": "application", "id": string(a.Application)},
		"context":  map[string]any{"device": a.Device, "segment": a.Segment},
	})
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := p.http.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", client.ErrUnavailable, err)
	}
	defer res.Body.Close()
	var out answer
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return out, fmt.Errorf("the decision point answered %s: %s", res.Status, text)
	}
	return out, json.NewDecoder(res.Body).Decode(&out)
}

// askAccess asks from many sites and holds every answer to the written policy.
func (s *story) askAccess(ctx context.Context) error {
	if err := s.security.PutSubjects(ctx, people); err != nil {
		return err
	}
	p, err := s.newPEP(ctx)
	if err != nil {
		return err
	}
	ids := make([]inventory.DeviceID, len(s.devices))
	for i, d := range s.devices {
		ids[i] = d.ID
	}
	// The directory reaches the engine within a second; ask until it has.
	err = s.wait(ctx, 30*time.Second, "facts", func(ctx context.Context) (bool, string, error) {
		a, err := p.ask(ctx, access{Subject: people[0].ID, Segment: cases[0].Segment, Application: cases[0].Application, Action: "connect", Device: ids[0]})
		if err != nil {
			return false, "", err
		}
		s.count(a)
		return a.Decision, a.Context.Code, nil
	})
	if err != nil {
		return err
	}
	answered, err := s.askMany(ctx, p, requests(ids, rounds, s.rng))
	if err != nil {
		return err
	}
	return s.allLogged(ctx, answered)
}

func (s *story) count(a answer) {
	if a.Decision {
		s.report.Decisions.Allow++
	} else {
		s.report.Decisions.Deny++
	}
}

// askMany asks eight at a time. When chaos is on, the controller is killed in
// the middle; requests that got no answer are asked again.
func (s *story) askMany(ctx context.Context, p *pep, asked []access) ([]string, error) {
	var mu sync.Mutex
	var ids []string
	var failed error
	work := make(chan access)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for a := range work {
				var got answer
				err := s.wait(ctx, time.Minute, "an answer", func(ctx context.Context) (bool, string, error) {
					var err error
					got, err = p.ask(ctx, a)
					return err == nil, "", err
				})
				mu.Lock()
				if err != nil {
					failed = err
				} else {
					ids = append(ids, got.Context.ID)
					s.count(got)
					s.report.expect(got.Decision == a.Allow && got.Context.Code == a.Code, "%s to %s from %s by %s: %t (%s), the policy says %t (%s)",
						a.Subject, a.Application, a.Device, a.Segment, got.Decision, got.Context.Code, a.Allow, a.Code)
				}
				mu.Unlock()
			}
		})
	}
	for i, a := range asked {
		if s.chaos("telemetry") && i == len(asked)/2 {
			if err := s.killServe(ctx); err != nil {
				failed = err
				break
			}
		}
		work <- a
	}
	close(work)
	wg.Wait()
	return ids, failed
}

// allLogged looks every answered decision up.
func (s *story) allLogged(ctx context.Context, ids []string) error {
	for _, id := range ids {
		if _, err := s.security.Decision(ctx, id); err != nil {
			s.report.expect(false, "decision %s was answered and is not in the log: %v", id, err)
		}
	}
	return ctx.Err()
}
