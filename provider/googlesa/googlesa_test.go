package googlesa

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider/providertest"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

const ci = "ci@acme-prod.iam.gserviceaccount.com"

// world is a simulated Google with one account, and a provider on it.
type world struct {
	*testing.T
	clock  *simcloud.Clock
	cloud  *simcloud.Cloud
	google *simcloud.GoogleIAM
	p      *Provider
}

func newWorld(t *testing.T, sim simcloud.GoogleIAMOptions, o Options) *world {
	t.Helper()
	w := &world{T: t, clock: simcloud.NewClock(time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC))}
	w.cloud = simcloud.New(w.clock.Now)
	sim.Accounts = append(sim.Accounts, ci)
	google, err := w.cloud.StartGoogleIAM(sim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Stop)
	w.google = google
	o.Endpoint, o.TokenURL, o.Now = google.Endpoint, google.TokenURL, w.clock.Now
	p, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	w.p = p
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func stamp(attempt int) string {
	return rotation.Stamp{Install: "ab12cd", Key: "google-prod", Rotation: "abcdefgh", Attempt: attempt}.String()
}

// mint makes a key in whatever mode.
func (w *world) mint(attempt int) (id string, v secret.Value) {
	w.Helper()
	m, err := w.p.Mint(w.Context(), ci, stamp(attempt))
	w.must(err)
	return m.ID, m.Value
}

func (w *world) foreign() (id string, v secret.Value) {
	w.Helper()
	id, v, err := w.google.CreateForeignKey(ci)
	w.must(err)
	return id, v
}

// edited is a key file with one field changed.
func edited(t *testing.T, v secret.Value, field string, to any) secret.Value {
	t.Helper()
	var file map[string]any
	if err := json.Unmarshal([]byte(v.Reveal()), &file); err != nil {
		t.Fatal(err)
	}
	if to == nil {
		delete(file, field)
	} else {
		file[field] = to
	}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(text)
}

// pemBody is what is secret in a key file: the lines of the private key between BEGIN and END.
func pemBody(v secret.Value) []string {
	var file struct {
		PrivateKey string `json:"private_key"`
	}
	if json.Unmarshal([]byte(v.Reveal()), &file) != nil || file.PrivateKey == "" {
		return []string{v.Reveal()}
	}
	lines := strings.Split(strings.TrimSpace(file.PrivateKey), "\n")
	// The first line begins like every RSA key in PKCS #8.
	return lines[2 : len(lines)-2]
}

func TestBothModesKeepTheContract(t *testing.T) {
	iam := func(method string) providertest.Request {
		return providertest.Request{Service: simcloud.GoogleIAMService, Method: method}
	}
	for mode, minting := range map[Mode]string{Upload: "UploadServiceAccountKey", Create: "CreateServiceAccountKey"} {
		t.Run(string(mode), func(t *testing.T) {
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: mode})
				accounts := 0
				_, example := w.foreign()
				return providertest.Harness{
					Provider: w.p, Cloud: w.cloud, Advance: w.clock.Advance,
					NewAccount: func(t *testing.T) string {
						accounts++
						email := fmt.Sprintf("app-%d@acme-prod.iam.gserviceaccount.com", accounts)
						w.google.AddServiceAccount(email)
						return email
					},
					UnknownAccount: "nobody@acme-prod.iam.gserviceaccount.com",
					ForeignKey: func(t *testing.T, account string) (string, secret.Value) {
						id, v, err := w.google.CreateForeignKey(account)
						if err != nil {
							t.Fatal(err)
						}
						return id, v
					},
					RefusedValue: func(t *testing.T, account string) secret.Value {
						return edited(t, edited(t, example, "private_key_id", strings.Repeat("0a", 20)), "client_email", account)
					},
					NotKeys: map[string]string{
						"nothing":                 "",
						"a password":              "correct-horse-battery-staple",
						"a JSON string":           `"correct-horse-battery-staple"`,
						"null":                    "null",
						"another kind of file":    `{"type":"authorized_user","refresh_token":"1//correct-horse-battery"}`,
						"a file without an email": edited(t, example, "client_email", nil).Reveal(),
						"a file without a key":    edited(t, example, "private_key", nil).Reveal(),
						"a file with a cut-off key": edited(t, example, "private_key",
							"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n").Reveal(),
						"half a file": example.Reveal()[:900],
					},
					Requests: map[providertest.Operation]providertest.Request{
						providertest.Probe:   {Service: simcloud.GoogleTokenService, Method: "Token"},
						providertest.List:    iam("ListServiceAccountKeys"),
						providertest.Mint:    iam(minting),
						providertest.Disable: iam("DisableServiceAccountKey"),
						providertest.Enable:  iam("EnableServiceAccountKey"),
						providertest.Delete:  iam("DeleteServiceAccountKey"),
					},
					Sensitive: pemBody,
					ServerWords: []string{simcloud.InjectedFailure, "EOF", "Precondition check", "does not exist", "Invalid JWT",
						"account not found", "ya29."},
				}
			})
		})
	}
}
