package googlesa

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

func TestTheEleventhKeyIsRefusedAsTheLimit(t *testing.T) {
	for _, mode := range []Mode{Upload, Create} {
		w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: mode})
		first, _ := w.mint(1)
		for n := range 9 {
			w.mint(n + 2)
		}
		// Disabled keys count.
		w.must(w.p.Disable(t.Context(), ci, first))
		try := func() error {
			_, err := w.p.Mint(t.Context(), ci, stamp(11))
			return err
		}
		if err := try(); fault.Of(err).Code != CodeKeyLimit || fault.Of(err).Class != fault.Rejected {
			t.Errorf("%s: the eleventh key: %v", mode, err)
		}
		// So did Google report the limit until about 2022.
		remove := w.cloud.Inject(atMint(mode, simcloud.Fault{Kind: simcloud.Refuse, Code: 429, RetryAfter: 86401 * time.Second}))
		if err := try(); fault.Of(err).Code != CodeKeyLimit || fault.Of(err).RetryAfter != 0 {
			t.Errorf("%s: the eleventh key, reported as an exhausted quota: %v", mode, err)
		}
		remove()
		w.must(w.p.Delete(t.Context(), ci, first))
		w.must(try())
	}
}

// atMint is a fault of the request that makes a key.
func atMint(mode Mode, f simcloud.Fault) simcloud.Fault {
	f.Service, f.Method = simcloud.GoogleIAMService, map[Mode]string{Upload: "UploadServiceAccountKey", Create: "CreateServiceAccountKey"}[mode]
	return f
}

func TestOrganizationPoliciesAreToldConflictsWithTheLimitAndNamed(t *testing.T) {
	constraints := map[Mode]string{Upload: "disableServiceAccountKeyUpload", Create: "disableServiceAccountKeyCreation"}
	for mode, constraint := range constraints {
		for managed, prefix := range map[bool]string{false: "iam.", true: "iam.managed."} {
			w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: mode})
			w.google.ManagedPolicies(managed)
			w.google.ForbidKeyCreation(true)
			w.google.ForbidKeyUpload(true)
			_, err := w.p.Mint(t.Context(), ci, stamp(1))
			f := fault.Of(err)
			if f.Class != fault.Rejected || f.Code != CodeOrgPolicy || f.Unsettled || !strings.Contains(f.Advice, " "+prefix+constraint+" ") {
				t.Errorf("%s: %v", mode, err)
			}
			// By default both are forbidden: another mode is no way out.
			for _, other := range []Mode{Upload, Create} {
				if strings.Contains(f.Advice, `"`+string(other)+`"`) {
					t.Errorf("%s: it sends people to the mode %q: %s", mode, other, f.Advice)
				}
			}
		}
	}
}

func TestARefusalWithoutAReasonIsTheLimitOnlyIfTheListShowsTenKeys(t *testing.T) {
	for _, mode := range []Mode{Upload, Create} {
		w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: mode})
		w.foreign()
		w.cloud.Inject(atMint(mode, simcloud.Fault{Kind: simcloud.Refuse, Code: 412}))
		try := func() *fault.Error {
			_, err := w.p.Mint(t.Context(), ci, stamp(1))
			return fault.Of(err)
		}
		if f := try(); f.Code != "FailedPrecondition" || f.Class != fault.Rejected || f.Unsettled || !strings.Contains(f.Advice, "1 keys of the 10") {
			t.Errorf("%s, with one key: %v", mode, f)
		}
		for range 9 {
			w.foreign()
		}
		if f := try(); f.Code != CodeKeyLimit || f.Class != fault.Rejected {
			t.Errorf("%s, with ten keys: %v", mode, f)
		}
		w.cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "ListServiceAccountKeys", Kind: simcloud.Refuse, Code: 403})
		if f := try(); f.Code != "FailedPrecondition" || !strings.Contains(f.Advice, "does not say why") {
			t.Errorf("%s, with a list that cannot be had: %v", mode, f)
		}
	}
}

func TestOnlyTheNameOfAConstraintIsTakenFromARefusal(t *testing.T) {
	for said, want := range map[string]string{
		"constraints/iam.managed.disableServiceAccountKeyUpload":           "iam.managed.disableServiceAccountKeyUpload",
		"customConstraints/custom.noKeys,constraints/iam.managed.more":     "custom.noKeys, iam.managed.more",
		"constraints/-----BEGIN PRIVATE KEY-----MIIEvQIBADANBgkqhkiG9w0BA": "(Google does not name it)",
		"": "(Google does not name it)",
	} {
		s, err := status.New(codes.FailedPrecondition, "server words").WithDetails(&errdetails.ErrorInfo{Reason: "CUSTOM_ORG_POLICY_VIOLATION", Metadata: map[string]string{"customConstraints": said}})
		if err != nil {
			t.Fatal(err)
		}
		if got, forbidden := forbids(s); !forbidden || got != want {
			t.Errorf("%q is read as %q, %v", said, got, forbidden)
		}
	}
}

// goneAnswers are the ways in which Google was seen to report that a key is gone.
var goneAnswers = map[codes.Code]fault.Class{codes.NotFound: fault.NotFound, codes.FailedPrecondition: fault.Rejected, codes.PermissionDenied: fault.AccessDenied}

func TestWhatIsAskedOfAKeyThatIsGoneIsRefusedAndChangesNothing(t *testing.T) {
	for code, class := range goneAnswers {
		w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
		w.google.AnswerGone(code)
		id, _ := w.foreign()
		w.must(w.p.Delete(t.Context(), ci, id))
		for name, change := range map[string]func(context.Context, string, string) error{"disable": w.p.Disable, "enable": w.p.Enable, "delete": w.p.Delete} {
			if err := change(t.Context(), ci, id); !fault.Is(err, class) || fault.Of(err).Unsettled {
				t.Errorf("%s, reported by %s: %v", name, code, err)
			}
		}
	}
}

func TestAListThatStillShowsADeletedKeyDoesNotFailForIt(t *testing.T) {
	// Whether rekey may read keys at all, another one shows.
	for witness, another := range map[string]func(*world){
		"a key that Google made":       func(w *world) { w.foreign() },
		"another key that we uploaded": func(w *world) { w.mint(2) },
	} {
		for code := range goneAnswers {
			w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
			w.google.AnswerGone(code)
			ours, _ := w.mint(1)
			another(w)
			w.cloud.SetTiming(simcloud.Timing{ListLag: time.Minute})
			w.must(w.p.Delete(t.Context(), ci, ours))
			keys, err := w.p.List(t.Context(), ci)
			if err != nil || len(keys) != 2 || keys[0].ID != ours || keys[0].Stamp != "" {
				t.Errorf("beside %s, reported by %s: %+v, %v", witness, code, keys, err)
			}
			w.clock.Advance(time.Minute)
			if keys, err := w.p.List(t.Context(), ci); err != nil || len(keys) != 1 {
				t.Errorf("beside %s, reported by %s, a minute later: %+v, %v", witness, code, keys, err)
			}
		}
	}
}

func TestAListWithoutThePermissionToReadCertificatesFails(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	w.mint(1)
	w.foreign()
	w.cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "GetServiceAccountKey", Kind: simcloud.Refuse, Code: 403})
	if keys, err := w.p.List(t.Context(), ci); !fault.Is(err, fault.AccessDenied) {
		t.Errorf("our key looks like somebody else's: %+v, %v", keys, err)
	}
}

func TestAKeyThatGoogleDisabledByItselfCanBeDisabledEnabledAndDeleted(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
		w.google.StrictStates(strict)
		id, _ := w.mint(1)
		w.must(w.google.DisableExposed(ci, id))
		w.must(w.p.Disable(t.Context(), ci, id))
		w.must(w.p.Enable(t.Context(), ci, id))
		w.must(w.p.Enable(t.Context(), ci, id))
		w.must(w.p.Disable(t.Context(), ci, id))
		w.must(w.p.Delete(t.Context(), ci, id))
	}
}

func TestAnUploadIsForbiddenWhereCreationIsNotAndTheOtherWayRound(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: Upload})
	w.google.ForbidKeyCreation(true)
	w.mint(1)
	w = newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: Create})
	w.google.ForbidKeyUpload(true)
	w.mint(1)
}

func TestListsLag(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	w.cloud.SetTiming(simcloud.Timing{ListLag: time.Minute})
	ids := func() (ids []string) {
		keys, err := w.p.List(t.Context(), ci)
		w.must(err)
		for _, k := range keys {
			ids = append(ids, k.ID)
		}
		return ids
	}
	id, _ := w.mint(1)
	if got := ids(); got != nil {
		t.Errorf("a new key is listed at once: %v", got)
	}
	w.clock.Advance(time.Minute)
	if got := ids(); !cmp.Equal(got, []string{id}) {
		t.Errorf("after the lag the list is %v, want %s", got, id)
	}
	w.must(w.p.Delete(t.Context(), ci, id))
	// Its certificate is gone already; that is not a reason to fail, or to call it ours.
	keys, err := w.p.List(t.Context(), ci)
	w.must(err)
	if len(keys) != 1 || keys[0].ID != id || keys[0].Stamp != "" {
		t.Errorf("a key that was just deleted is listed as %+v", keys)
	}
	w.clock.Advance(time.Minute)
	if got := ids(); got != nil {
		t.Errorf("after the lag the deleted key is still listed: %v", got)
	}
}

func TestANewKeyIsRefusedUntilItHasPropagatedAndARevokedOneAcceptedForAWhile(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	w.cloud.SetTiming(simcloud.Timing{Propagation: 2 * time.Minute, RevocationLag: time.Minute})
	id, v := w.mint(1)
	expect := func(when string, accepted bool) {
		t.Helper()
		proof, err := w.p.Probe(t.Context(), ci, v)
		w.must(err)
		want := provider.Proof{Code: "invalid_grant"}
		if accepted {
			want = provider.Proof{Accepted: true, Account: ci}
		}
		if proof != want {
			t.Errorf("%s: %+v, want %+v", when, proof, want)
		}
	}
	expect("at once", false)
	w.clock.Advance(2*time.Minute - time.Second)
	expect("a second too early", false)
	w.clock.Advance(time.Second)
	expect("propagated", true)
	w.must(w.p.Disable(t.Context(), ci, id))
	expect("just disabled", true)
	w.clock.Advance(time.Minute)
	expect("disabled", false)
	w.must(w.p.Enable(t.Context(), ci, id))
	expect("just enabled", false)
	w.clock.Advance(2 * time.Minute)
	expect("enabled", true)
}

func TestAnUploadedKeyIsItsOwnPairUnderItsStamp(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	one, first := w.mint(1)
	two, second := w.mint(2)
	if first.Equal(second) || cmp.Equal(pemBody(first), pemBody(second)) {
		t.Error("two mints return one key pair")
	}
	if got, want := w.cloud.LiveKeys(), map[string]string{one: stamp(1), two: stamp(2)}; !cmp.Equal(got, want) {
		t.Errorf("Google holds %v, want %v", got, want)
	}
	for id, v := range map[string]secret.Value{one: first, two: second} {
		if got := w.cloud.KeyID(v); got != id {
			t.Errorf("Google knows the value of %s as %q", id, got)
		}
		proof, err := w.p.Probe(t.Context(), ci, v)
		w.must(err)
		if want := (provider.Proof{Accepted: true, Account: ci}); proof != want {
			t.Errorf("%s: %+v, want %+v", id, proof, want)
		}
	}
}

func TestACertificateSaysTheStampAndADateThatALateClockTakes(t *testing.T) {
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text, err := certificate(key, stamp(1), now)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Version != 3 || cert.Subject.String() != "CN="+stamp(1) || cert.SerialNumber.Sign() <= 0 || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("version %d, subject %s, serial number %v", cert.Version, cert.Subject, cert.SerialNumber)
	}
	if want := now.Add(-clockSkew); !cert.NotBefore.Equal(want) || !cert.NotAfter.Equal(now.Add(certificateLife)) {
		t.Errorf("valid from %v to %v", cert.NotBefore, cert.NotAfter)
	}
}

func TestAMintWithABadStampSendsNothing(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	if _, err := w.p.Mint(t.Context(), ci, stamp(1)+"-copy"); !fault.Is(err, fault.Internal) || fault.Of(err).Unsettled {
		t.Errorf("a mint with a bad stamp: %v", err)
	}
	if n := len(w.cloud.Journal()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestACommonNameThatOnlyBeginsLikeAStampIsNone(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	cert, err := certificate(key, stamp(1)+"-copy", w.clock.Now())
	w.must(err)
	_, err = w.p.iam.UploadServiceAccountKey(t.Context(), &adminpb.UploadServiceAccountKeyRequest{
		Name: "projects/acme-prod/serviceAccounts/" + ci, PublicKeyData: cert,
	})
	w.must(err)
	keys, err := w.p.List(t.Context(), ci)
	w.must(err)
	if len(keys) != 1 || keys[0].Stamp != "" {
		t.Errorf("it is listed as %+v", keys)
	}
}

func TestAKeyThatExpiresSaysWhen(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{KeyLifetime: 720 * time.Hour}, Options{Mode: Create})
	_, v := w.mint(1)
	keys, err := w.p.List(t.Context(), ci)
	w.must(err)
	if want := w.clock.Now().Add(720 * time.Hour); len(keys) != 1 || !keys[0].ExpiresAt.Equal(want) {
		t.Errorf("%+v, want expiry %v", keys, want)
	}
	w.clock.Advance(720 * time.Hour)
	proof, err := w.p.Probe(t.Context(), ci, v)
	w.must(err)
	if proof.Accepted {
		t.Error("the expired key is accepted")
	}
}

func TestARequestThatHangsEndsWithItsTimeout(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{Mode: Create, RequestTimeout: 500 * time.Millisecond})
	_, v := w.foreign()
	_, _ = w.p.List(t.Context(), ci) // so that it is the request which takes the time, not the connection
	hang := make(chan struct{})
	defer close(hang)
	w.cloud.Inject(simcloud.Fault{Kind: simcloud.Hold, Release: hang})
	_, err := w.p.Mint(context.Background(), ci, stamp(1))
	if f := fault.Of(err); f.Class != fault.Unavailable || !f.Unsettled || f.Code != "DeadlineExceeded" {
		t.Errorf("a mint that hangs: %v", err)
	}
	if _, err := w.p.Probe(context.Background(), ci, v); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a probe that hangs: %v", err)
	}
}

// Google's libraries log whole requests and answers, private keys and tokens among them, when the environment
// asks for it.
func TestNothingButAnIDGoesIntoAPath(t *testing.T) {
	w := newWorld(t, simcloud.GoogleIAMOptions{}, Options{})
	for _, id := range []string{"", "../" + strings.Repeat("a", 40), "0a0a0a0a0a0a0a0a/../x", "sk-live-correct-horse-battery"} {
		err := w.p.Delete(t.Context(), ci, id)
		if !fault.Is(err, fault.Rejected) || id != "" && strings.Contains(err.Error(), id) {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	if err := w.p.Delete(t.Context(), "ci@acme-prod.iam.gserviceaccount.com/keys/x", strings.Repeat("0a", 20)); !fault.Is(err, fault.Rejected) {
		t.Errorf("an account with a path in it: %v", err)
	}
	if n := len(w.cloud.Journal()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestTheProjectFollowsFromTheEmail(t *testing.T) {
	for email, project := range map[string]string{
		"ci@acme-prod.iam.gserviceaccount.com":                  "acme-prod",
		"ci@app.example.com.iam.gserviceaccount.com":            "example.com:app",
		"123456789012-compute@developer.gserviceaccount.com":    "",
		"acme-prod@appspot.gserviceaccount.com":                 "",
		"someone@example.com":                                   "",
		"ci@acme-prod.iam.gserviceaccount.com.attacker.example": "",
	} {
		if got := projectOf(email); got != project {
			t.Errorf("%s: %q, want %q", email, got, project)
		}
	}
}

func TestAnAccountWhoseProjectIsUnknownWorksThroughTheWildcard(t *testing.T) {
	const compute = "123456789012-compute@developer.gserviceaccount.com"
	w := newWorld(t, simcloud.GoogleIAMOptions{Accounts: []string{compute}}, Options{Mode: Create})
	m, err := w.p.Mint(t.Context(), compute, stamp(1))
	w.must(err)
	w.must(w.p.Delete(t.Context(), compute, m.ID))
	var file struct {
		Project string `json:"project_id"`
	}
	w.must(json.Unmarshal([]byte(m.Value.Reveal()), &file))
	if file.Project != "simulated-project" {
		t.Errorf("project_id is %q, want Google's", file.Project)
	}
	// With the wildcard Google says 403 for what does not exist; the advice must allow for it.
	_, err = w.p.List(t.Context(), "999-compute@developer.gserviceaccount.com")
	if f := fault.Of(err); !fault.Is(err, fault.AccessDenied) || !strings.Contains(f.Advice, "exists") {
		t.Errorf("an unknown account: %v", err)
	}
}
