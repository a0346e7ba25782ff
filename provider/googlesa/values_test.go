package googlesa

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

func TestNoAddressInASuppliedFileIsUsedOrKept(t *testing.T) {
	asked := 0
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer attacker.Close()
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	_, v := w.foreign()
	for _, field := range []string{"token_uri", "auth_uri", "auth_provider_x509_cert_url", "client_x509_cert_url", "service_account_impersonation_url", "Token_Uri"} {
		v = edited(t, v, field, attacker.URL+"/token")
	}
	v = edited(t, v, "project_id", "attackers-project")

	proof, err := w.p.Probe(t.Context(), ci, v)
	w.must(err)
	if !proof.Accepted || asked != 0 {
		t.Errorf("the probe returns %+v and asked the attacker %d times", proof, asked)
	}
	parsed, err := w.p.Parse(v)
	w.must(err)
	var got map[string]string
	w.must(json.Unmarshal([]byte(parsed.Value.Reveal()), &got))
	delete(got, "private_key")
	delete(got, "client_id")
	want := map[string]string{
		"type": "service_account", "project_id": "acme-prod", "private_key_id": parsed.KeyID, "client_email": ci,
		"auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": w.google.TokenURL,
		"auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
		"client_x509_cert_url":        "https://www.googleapis.com/robot/v1/metadata/x509/ci%40acme-prod.iam.gserviceaccount.com",
		"universe_domain":             "googleapis.com",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestARedirectOfTheTokenEndpointIsNotFollowed(t *testing.T) {
	asked := 0
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer attacker.Close()
	proxy := httptest.NewServer(http.RedirectHandler(attacker.URL, http.StatusTemporaryRedirect))
	defer proxy.Close()
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	_, v := w.foreign()
	p, err := New(t.Context(), Options{Endpoint: w.google.Endpoint, TokenURL: proxy.URL + "/token"})
	w.must(err)
	defer p.Close()
	_, err = p.Probe(t.Context(), ci, v)
	if f := fault.Of(err); err == nil || f.Code != "307" || f.Advice == "" || asked != 0 {
		t.Errorf("a redirect returns %v, and its target was asked %d times", err, asked)
	}
}

func TestAKeyOfAnotherAccountTellsItsAccount(t *testing.T) {
	const other = "other@acme-prod.iam.gserviceaccount.com"
	w := newWorld(t, simcloud.GoogleIAMOptions{Accounts: []string{other}}, Options{})
	_, v, err := w.google.CreateForeignKey(other)
	w.must(err)
	proof, err := w.p.Probe(t.Context(), ci, v)
	w.must(err)
	if want := (provider.Proof{Accepted: true, Account: other}); proof != want {
		t.Errorf("%+v, want %+v", proof, want)
	}
	// The other account's key id in a file that claims to be ours.
	proof, err = w.p.Probe(t.Context(), ci, edited(t, v, "client_email", ci))
	w.must(err)
	if want := (provider.Proof{Code: "invalid_grant"}); proof != want {
		t.Errorf("a file with another account's email: %+v, want %+v", proof, want)
	}
}

func TestAWrongClockIsNotABadKey(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{ClockSkew: 3 * time.Hour}, Options{})
	_, v := w.foreign()
	proof, err := w.p.Probe(t.Context(), ci, v)
	if f := fault.Of(err); !fault.Is(err, fault.Unavailable) || f.Code != "clock_skew" || f.Advice == "" {
		t.Errorf("with a clock three hours late: %+v, %v", proof, err)
	}
}

func TestTheEnvironmentCannotMakeGooglesLibrariesPrintSecrets(t *testing.T) {
	t.Setenv("GOOGLE_SDK_GO_LOGGING_LEVEL", "debug")
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = file
	defer func() { os.Stderr = stderr }()
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: Create})
	_, v := w.mint(1)
	_, err = w.p.Probe(t.Context(), ci, v)
	w.must(err)
	printed, err := os.ReadFile(file.Name())
	w.must(err)
	if len(printed) > 0 {
		t.Errorf("%d bytes were printed", len(printed))
	}
}

func TestOptionsThatWouldSendSecretsInTheOpenAreRefused(t *testing.T) {
	for sentence, o := range map[string]Options{
		"another endpoint that is not on loopback": {Endpoint: "iam.example.com:443", TokenURL: "https://oauth2.example.com/token"},
		"a loopback endpoint without a token URL":  {Endpoint: "127.0.0.1:1"},
		"a token URL in the open":                  {Endpoint: "127.0.0.1:1", TokenURL: "http://oauth2.example.com/token"},
		"no credentials for Google's own endpoint": {},
		"a mode that does not exist":               {Mode: "rotate", Endpoint: "127.0.0.1:1", TokenURL: "http://127.0.0.1:2/token"},
	} {
		_, err := New(t.Context(), o)
		if f := fault.Of(err); err == nil || f.Class != fault.Rejected || f.Advice == "" {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

func TestPastedFilesInAnyKnownFormBecomeOneValue(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	_, v := w.foreign()
	want, err := w.p.Parse(v)
	w.must(err)
	for sentence, text := range map[string]string{
		"as downloaded":          v.Reveal(),
		"in quotes":              "'" + v.Reveal() + "'\n",
		"with a byte order mark": "\ufeff" + v.Reveal(),
		"in one line":            edited(t, v, "unknown_field", "x").Reveal(),
	} {
		got, err := w.p.Parse(secret.FromString(text))
		if err != nil || !got.Value.Equal(want.Value) {
			t.Errorf("%s: %v, %v", sentence, got, err)
		}
	}
}

func TestOddAnswersOfTheTokenEndpointAreNotMistakenForARefusedKey(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	_, v := w.foreign()
	for sentence, c := range map[string]struct {
		status int
		body   string
		proof  provider.Proof
		class  fault.Class
	}{
		"the account was deleted":              {401, `{"error":"deleted_client","error_description":"server words"}`, provider.Proof{Code: "deleted_client"}, ""},
		"the account was disabled":             {401, `{"error":"disabled_client","error_description":"server words"}`, provider.Proof{Code: "disabled_client"}, ""},
		"a refusal that is not about the key":  {400, `{"error":"invalid_scope","error_description":"server words"}`, provider.Proof{}, fault.Rejected},
		"a 400 that is not Google's":           {400, `server words`, provider.Proof{}, fault.Internal},
		"a 401 that is not Google's":           {401, `server words`, provider.Proof{}, fault.Internal},
		"a service perimeter":                  {403, `{"error":"access_denied","error_description":"server words"}`, provider.Proof{}, fault.AccessDenied},
		"a good answer that is a web page":     {200, `<html>server words</html>`, provider.Proof{}, fault.Internal},
		"a good answer without a token":        {200, `{"token_type":"server words"}`, provider.Proof{}, fault.Internal},
		"a good answer with a token of no use": {200, `{"access_token":17,"token_type":"server words"}`, provider.Proof{}, fault.Internal},
	} {
		answers := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(c.status)
			_, _ = rw.Write([]byte(c.body))
		}))
		p, err := New(t.Context(), Options{Endpoint: w.google.Endpoint, TokenURL: answers.URL + "/token"})
		w.must(err)
		proof, err := p.Probe(t.Context(), ci, v)
		if proof != c.proof || (err == nil) != (c.class == "") || err != nil && !fault.Is(err, c.class) {
			t.Errorf("%s: %+v, %v", sentence, proof, err)
		}
		if err != nil && strings.Contains(err.Error(), "server words") {
			t.Errorf("%s: the server's words reached the fault: %v", sentence, err)
		}
		_ = p.Close()
		answers.Close()
	}
}
