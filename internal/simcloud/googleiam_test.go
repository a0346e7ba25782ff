package simcloud_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	admin "cloud.google.com/go/iam/admin/apiv1"
	"cloud.google.com/go/iam/admin/apiv1/adminpb"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rekeyhq/rekey/internal/simcloud"
)

const (
	robot     = "ci@acme-prod.iam.gserviceaccount.com"
	robotName = "projects/acme-prod/serviceAccounts/" + robot
)

// startGoogle returns a simulated Google with one account, and Google's own client for it.
func startGoogle(t *testing.T) (*simcloud.Cloud, *simcloud.GoogleIAM, *admin.IamClient) {
	t.Helper()
	c := simcloud.New(nil)
	g, err := c.StartGoogleIAM(simcloud.GoogleIAMOptions{Accounts: []string{robot}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	client, err := admin.NewIamClient(t.Context(), option.WithEndpoint(g.Endpoint), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return c, g, client
}

func certificate(t *testing.T, public, private any, until time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "unused"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestGoogleTakesOnlyRSACertificates(t *testing.T) {
	_, _, client := startGoogle(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	good := certificate(t, &rsaKey.PublicKey, rsaKey, tomorrow)
	for sentence, c := range map[string]struct {
		data []byte
		want codes.Code
	}{
		"an RSA certificate":                   {good, codes.OK},
		"an elliptic curve certificate":        {certificate(t, &ecKey.PublicKey, ecKey, tomorrow), codes.InvalidArgument},
		"an expired certificate":               {certificate(t, &rsaKey.PublicKey, rsaKey, time.Now().Add(-time.Minute)), codes.InvalidArgument},
		"a certificate without its first line": {good[len("-----BEGIN CERTIFICATE-----\n"):], codes.InvalidArgument},
		"a certificate and more":               {append(append([]byte{}, good...), good...), codes.InvalidArgument},
		"a bare public key":                    {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)}), codes.InvalidArgument},
		"nothing":                              {nil, codes.InvalidArgument},
	} {
		k, err := client.UploadServiceAccountKey(t.Context(), &adminpb.UploadServiceAccountKeyRequest{Name: robotName, PublicKeyData: c.data})
		if status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", sentence, err, c.want)
			continue
		}
		if err != nil {
			continue
		}
		got, err := client.GetServiceAccountKey(t.Context(), &adminpb.GetServiceAccountKeyRequest{Name: k.GetName(), PublicKeyType: adminpb.ServiceAccountPublicKeyType_TYPE_X509_PEM_FILE})
		if err != nil || string(got.GetPublicKeyData()) != string(c.data) || got.GetKeyOrigin() != adminpb.ServiceAccountKeyOrigin_USER_PROVIDED {
			t.Errorf("the certificate does not come back: %v, %v", got, err)
		}
	}
}

func TestGoogleListsTheKindsOfKeysThatAreAskedFor(t *testing.T) {
	_, g, client := startGoogle(t)
	id, _, err := g.CreateForeignKey(robot)
	if err != nil {
		t.Fatal(err)
	}
	count := func(types ...adminpb.ListServiceAccountKeysRequest_KeyType) (n int, ours bool) {
		answer, err := client.ListServiceAccountKeys(t.Context(), &adminpb.ListServiceAccountKeysRequest{Name: robotName, KeyTypes: types})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range answer.GetKeys() {
			ours = ours || strings.HasSuffix(k.GetName(), id)
			if k.GetPrivateKeyData() != nil || k.GetPublicKeyData() != nil {
				t.Error("a list holds key material")
			}
		}
		return len(answer.GetKeys()), ours
	}
	if n, ours := count(); n != 2 || !ours {
		t.Errorf("without a filter: %d keys, ours among them: %v", n, ours)
	}
	if n, ours := count(adminpb.ListServiceAccountKeysRequest_USER_MANAGED); n != 1 || !ours {
		t.Errorf("user-managed: %d keys, ours among them: %v", n, ours)
	}
	if n, ours := count(adminpb.ListServiceAccountKeysRequest_SYSTEM_MANAGED); n != 1 || ours {
		t.Errorf("system-managed: %d keys, ours among them: %v", n, ours)
	}
}

func TestGoogleSaysWhatDoesNotExist(t *testing.T) {
	_, _, client := startGoogle(t)
	for name, want := range map[string]codes.Code{
		robotName + "/keys/" + strings.Repeat("0", 40):                                                            codes.NotFound,
		"projects/other/serviceAccounts/" + robot + "/keys/" + strings.Repeat("0", 40):                            codes.NotFound,
		"projects/acme-prod/serviceAccounts/no@acme-prod.iam.gserviceaccount.com/keys/" + strings.Repeat("0", 40): codes.NotFound,
		"projects/-/serviceAccounts/no@acme-prod.iam.gserviceaccount.com/keys/" + strings.Repeat("0", 40):         codes.PermissionDenied,
		"serviceAccounts/" + robot: codes.InvalidArgument,
	} {
		if err := client.DisableServiceAccountKey(t.Context(), &adminpb.DisableServiceAccountKeyRequest{Name: name}); status.Code(err) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// The suites look for this text where no text of a server may be; here it is seen to be sent.
func TestInjectedFailuresOfGoogleCarryTheirMark(t *testing.T) {
	c, g, client := startGoogle(t)
	c.Inject(simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusServiceUnavailable})
	_, err := client.CreateServiceAccountKey(t.Context(), &adminpb.CreateServiceAccountKeyRequest{Name: robotName})
	if err == nil || !strings.Contains(err.Error(), simcloud.InjectedFailure) {
		t.Errorf("the client sees %v", err)
	}
	answer, err := http.PostForm(g.TokenURL, url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), simcloud.InjectedFailure) {
		t.Errorf("the token endpoint says %d %s", answer.StatusCode, body)
	}
}

func TestGoogleGivesTokensForGoodAssertionsOnly(t *testing.T) {
	_, g, _ := startGoogle(t)
	keyID, value, err := g.CreateForeignKey(robot)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		PrivateKey string `json:"private_key"`
	}
	if err := json.Unmarshal([]byte(value.Reveal()), &file); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(file.PrivateKey))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	another, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	type assertion struct {
		key        any
		keyID, iss string
		aud, scope string
		iat, exp   time.Duration
		alg        jose.SignatureAlgorithm
		grant      string
	}
	good := assertion{private, keyID, robot, g.TokenURL, "email", 0, time.Hour, jose.RS256, "urn:ietf:params:oauth:grant-type:jwt-bearer"}
	for sentence, c := range map[string]struct {
		change func(*assertion)
		want   string
	}{
		"a good one":                   {func(*assertion) {}, ""},
		"another key's signature":      {func(a *assertion) { a.key = another }, "invalid_grant Invalid JWT Signature."},
		"an unknown key id":            {func(a *assertion) { a.keyID = strings.Repeat("0", 40) }, "invalid_grant Invalid JWT Signature."},
		"an unknown account":           {func(a *assertion) { a.iss = "no@acme-prod.iam.gserviceaccount.com" }, "invalid_grant Invalid grant: account not found"},
		"another audience":             {func(a *assertion) { a.aud = "https://attacker.example/token" }, "invalid_grant Invalid JWT: Failed audience check."},
		"one that has expired":         {func(a *assertion) { a.iat, a.exp = -2*time.Hour, -time.Hour }, "invalid_grant Invalid JWT: Token must be"},
		"one that lives for two hours": {func(a *assertion) { a.exp = 2 * time.Hour }, "invalid_grant Invalid JWT: Token must be"},
		"one from the future":          {func(a *assertion) { a.iat, a.exp = time.Hour, 2*time.Hour }, "invalid_grant Invalid JWT: Token must be"},
		"another algorithm":            {func(a *assertion) { a.alg = jose.RS512 }, "invalid_grant Invalid JWT"},
		"no scope":                     {func(a *assertion) { a.scope = "" }, "invalid_scope"},
		"another grant":                {func(a *assertion) { a.grant = "password" }, "unsupported_grant_type"},
	} {
		a := good
		c.change(&a)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: a.alg, Key: jose.JSONWebKey{Key: a.key, KeyID: a.keyID}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		claims := jwt.Claims{Issuer: a.iss, Audience: jwt.Audience{a.aud}, IssuedAt: jwt.NewNumericDate(time.Now().Add(a.iat)), Expiry: jwt.NewNumericDate(time.Now().Add(a.exp))}
		text, err := jwt.Signed(signer).Claims(claims).Claims(map[string]any{"scope": a.scope}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.PostForm(g.TokenURL, url.Values{"grant_type": {a.grant}, "assertion": {text}})
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Token       string `json:"access_token"`
			Type        string `json:"token_type"`
			ExpiresIn   int    `json:"expires_in"`
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		err = json.NewDecoder(answer.Body).Decode(&body)
		answer.Body.Close()
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
		}
		if c.want == "" {
			if answer.StatusCode != http.StatusOK || body.Token == "" || body.Type != "Bearer" || body.ExpiresIn != 3599 {
				t.Errorf("%s: %d %+v", sentence, answer.StatusCode, body)
			}
			continue
		}
		if answer.StatusCode != http.StatusBadRequest || body.Token != "" || !strings.HasPrefix(body.Error+" "+body.Description, c.want) {
			t.Errorf("%s: %d %+v, want 400 %s", sentence, answer.StatusCode, body, c.want)
		}
	}
}

func TestTheJournalKnowsGooglesKeysByTheirFiles(t *testing.T) {
	c, g, client := startGoogle(t)
	id, value, err := g.CreateForeignKey(robot)
	if err != nil {
		t.Fatal(err)
	}
	name := robotName + "/keys/" + id
	for _, change := range []func() error{
		func() error {
			return client.DisableServiceAccountKey(t.Context(), &adminpb.DisableServiceAccountKeyRequest{Name: name})
		},
		func() error {
			return client.EnableServiceAccountKey(t.Context(), &adminpb.EnableServiceAccountKeyRequest{Name: name})
		},
		func() error {
			return client.DeleteServiceAccountKey(t.Context(), &adminpb.DeleteServiceAccountKeyRequest{Name: name})
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	var kinds []simcloud.EventKind
	for _, e := range c.Journal() {
		if e.Kind == simcloud.Called {
			continue
		}
		kinds = append(kinds, e.Kind)
		if e.KeyID != id || e.Target != robot || e.Service != simcloud.GoogleIAMService || e.Stamp != "" {
			t.Errorf("%+v", e)
		}
	}
	want := []simcloud.EventKind{simcloud.KeyCreated, simcloud.KeyDisabled, simcloud.KeyEnabled, simcloud.KeyDeleted}
	if len(kinds) != len(want) {
		t.Fatalf("%v, want %v", kinds, want)
	}
	for i := range want {
		if kinds[i] != want[i] {
			t.Fatalf("%v, want %v", kinds, want)
		}
	}
	if got := c.KeyID(value); got != id {
		t.Errorf("the file is key %q, want %s, also after its end", got, id)
	}
}

func TestGoogleTellsThatAKeyIsGoneAsTheTestSays(t *testing.T) {
	for _, code := range []codes.Code{codes.NotFound, codes.FailedPrecondition, codes.PermissionDenied} {
		_, g, client := startGoogle(t)
		g.AnswerGone(code)
		id, _, err := g.CreateForeignKey(robot)
		if err != nil {
			t.Fatal(err)
		}
		name := robotName + "/keys/" + id
		if err := client.DeleteServiceAccountKey(t.Context(), &adminpb.DeleteServiceAccountKeyRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
		_, read := client.GetServiceAccountKey(t.Context(), &adminpb.GetServiceAccountKeyRequest{Name: name})
		for what, err := range map[string]error{
			"get": read, "delete": client.DeleteServiceAccountKey(t.Context(), &adminpb.DeleteServiceAccountKeyRequest{Name: name}),
			"disable": client.DisableServiceAccountKey(t.Context(), &adminpb.DisableServiceAccountKeyRequest{Name: name}),
		} {
			if status.Code(err) != code || len(status.Convert(err).Details()) > 0 {
				t.Errorf("%s: %v, want %s without details", what, err, code)
			}
		}
		// What never was is not found, whatever is said of what is gone.
		if err := client.DeleteServiceAccountKey(t.Context(), &adminpb.DeleteServiceAccountKeyRequest{Name: robotName + "/keys/" + strings.Repeat("0", 40)}); status.Code(err) != codes.NotFound {
			t.Errorf("an unknown key: %v", err)
		}
	}
}

func TestGoogleTellsManagedPoliciesByAnErrorInfoAndOlderOnesByAPrecondition(t *testing.T) {
	_, g, client := startGoogle(t)
	g.ForbidKeyCreation(true)
	g.ForbidKeyUpload(true)
	for _, managed := range []bool{false, true} {
		g.ManagedPolicies(managed)
		_, create := client.CreateServiceAccountKey(t.Context(), &adminpb.CreateServiceAccountKeyRequest{Name: robotName})
		_, upload := client.UploadServiceAccountKey(t.Context(), &adminpb.UploadServiceAccountKeyRequest{Name: robotName})
		for constraint, err := range map[string]error{"disableServiceAccountKeyCreation": create, "disableServiceAccountKeyUpload": upload} {
			details := status.Convert(err).Details()
			if status.Code(err) != codes.FailedPrecondition || len(details) != 1 {
				t.Fatalf("%v, %v", err, details)
			}
			var got string
			switch d := details[0].(type) {
			case *errdetails.ErrorInfo:
				got = d.GetReason() + " " + d.GetMetadata()["customConstraints"]
			case *errdetails.PreconditionFailure:
				got = d.GetViolations()[0].GetType()
			}
			want := "constraints/iam." + constraint
			if managed {
				want = "CUSTOM_ORG_POLICY_VIOLATION constraints/iam.managed." + constraint
			}
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}

func TestGoogleFindsANewKeyByItsIDAfterTheLag(t *testing.T) {
	c, g, client := startGoogle(t)
	c.SetTiming(simcloud.Timing{VisibleLag: time.Hour})
	id, _, err := g.CreateForeignKey(robot)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteServiceAccountKey(t.Context(), &adminpb.DeleteServiceAccountKeyRequest{Name: robotName + "/keys/" + id}); status.Code(err) != codes.NotFound {
		t.Errorf("delete at once: %v", err)
	}
	if _, alive := c.LiveKeys()[id]; !alive {
		t.Error("it was deleted all the same")
	}
}
