package simcloud

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rekeyhq/rekey/secret"
)

// The services as journal and faults name them. The methods of GoogleIAMService are those of the gRPC service
// (CreateServiceAccountKey, …) and its targets the account emails; the only method of GoogleTokenService is
// "Token", and its targets are <email>/keys/<key id>, as the request claims them.
const (
	GoogleIAMService   = "google-iam"
	GoogleTokenService = "google-token"
)

// googleKeyLimit: Google's quota page gives 10 keys per service account; disabled ones count.
const googleKeyLimit = 10

// googleNoExpiry is what Google says of a key that does not expire.
var googleNoExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// GoogleIAMOptions set up a simulated Google IAM. The zero value is one without accounts and policies.
type GoogleIAMOptions struct {
	// Accounts are the emails of service accounts that exist from the beginning.
	Accounts []string
	// KeyBits is the size of the RSA keys that are made here; 0 means 2048, which takes a tenth of a second.
	// The standard library makes none below 1024.
	KeyBits int
	// KeyLifetime is how long keys made by CreateServiceAccountKey live, as constraint
	// iam.serviceAccountKeyExpiryHours sets it; 0 means for ever.
	KeyLifetime time.Duration
	// ClockSkew is how far Google's clock is ahead of this machine's.
	ClockSkew time.Duration
}

// GoogleIAM is Google's IAM admin API over gRPC and its OAuth token endpoint over HTTP.
type GoogleIAM struct {
	adminpb.UnimplementedIAMServer

	// Endpoint is host:port of the gRPC service.
	Endpoint string
	// TokenURL is the address of the token endpoint.
	TokenURL string

	cloud *Cloud
	opts  GoogleIAMOptions
	stops []func()

	mu              sync.Mutex
	accounts        map[string]*googleAccount
	forbidsCreation bool
	forbidsUpload   bool
	managed         bool
	strict          bool
	gone            codes.Code
	ahead           []*rsa.PrivateKey
}

type googleAccount struct {
	email, project, uniqueID string
	keys                     []*googleKey
}

type googleKey struct {
	id         string
	origin     adminpb.ServiceAccountKeyOrigin
	system     bool
	public     *rsa.PublicKey
	cert       []byte // PEM
	validFrom  time.Time
	validUntil time.Time
	disabled   bool
	deleted    bool

	// What the rest of the world sees, late.
	acceptedFrom time.Time
	refusedFrom  time.Time // zero while the key is neither disabled nor deleted
	listedFrom   time.Time
	visibleFrom  time.Time
	unlistedFrom time.Time // zero until deleted
}

// StartGoogleIAM serves Google's IAM admin API and token endpoint on loopback until Stop.
func (c *Cloud) StartGoogleIAM(opts GoogleIAMOptions) (*GoogleIAM, error) {
	if opts.KeyBits == 0 {
		opts.KeyBits = 2048
	}
	g := &GoogleIAM{cloud: c, opts: opts, accounts: map[string]*googleAccount{}, gone: codes.NotFound}
	address, stop, err := c.ServeGRPC(GoogleIAMService, targetOfIAM, func(s *grpc.Server) { adminpb.RegisterIAMServer(s, g) })
	if err != nil {
		return nil, err
	}
	g.Endpoint, g.stops = address, append(g.stops, stop)
	url, stop, err := c.ServeHTTP(GoogleTokenService, routeOfToken, failToken, g.tokenHandler())
	if err != nil {
		g.Stop()
		return nil, err
	}
	g.mu.Lock()
	g.TokenURL, g.stops = url+"/token", append(g.stops, stop)
	g.mu.Unlock()
	for _, email := range opts.Accounts {
		g.AddServiceAccount(email)
	}
	c.IdentifyWith(g.identify)
	return g, nil
}

// MakeAhead makes n key pairs now that CreateServiceAccountKey will hand out: a benchmark of rekey should not measure
// how long this machine takes to find primes.
func (g *GoogleIAM) MakeAhead(n int) error {
	for range n {
		private, err := rsa.GenerateKey(rand.Reader, g.opts.KeyBits)
		if err != nil {
			return fmt.Errorf("key pairs ahead: %w", err)
		}
		g.mu.Lock()
		g.ahead = append(g.ahead, private)
		g.mu.Unlock()
	}
	return nil
}

// keyPair is one that was made ahead, or a new one.
func (g *GoogleIAM) keyPair() (*rsa.PrivateKey, error) {
	g.mu.Lock()
	n := len(g.ahead)
	if n == 0 {
		g.mu.Unlock()
		return rsa.GenerateKey(rand.Reader, g.opts.KeyBits)
	}
	defer g.mu.Unlock()
	private := g.ahead[n-1]
	g.ahead = g.ahead[:n-1]
	return private, nil
}

// Stop ends both servers.
func (g *GoogleIAM) Stop() {
	for _, stop := range g.stops {
		stop()
	}
}

// AddServiceAccount makes an account without user-managed keys. It has the key that Google keeps for itself.
func (g *GoogleIAM) AddServiceAccount(email string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.accounts[email] != nil {
		return
	}
	now := g.cloud.Now()
	g.accounts[email] = &googleAccount{
		email: email, project: projectOf(email), uniqueID: "1" + digits(20),
		keys: []*googleKey{{
			id: randomHex(20), system: true, origin: adminpb.ServiceAccountKeyOrigin_GOOGLE_PROVIDED,
			validFrom: now, validUntil: now.Add(16 * 24 * time.Hour), listedFrom: now,
		}},
	}
}

// AnswerGone says how a request about a key that was deleted is refused. The reference says NOT_FOUND, which it is until
// this is called. Seen were also FAILED_PRECONDITION without details (uc-cdis/fence pull request 868, spotify/styx pull
// request 915) and PERMISSION_DENIED, which Google's own Terraform provider therefore takes for "gone"
// (GoogleCloudPlatform/magic-modules pull request 17733).
func (g *GoogleIAM) AnswerGone(code codes.Code) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = code
}

// SetClockSkew changes how far Google's clock is ahead of this machine's.
func (g *GoogleIAM) SetClockSkew(skew time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opts.ClockSkew = skew
}

// StrictStates makes Google refuse to disable what is disabled and to enable what is enabled. Whether the real one does is
// not documented.
func (g *GoogleIAM) StrictStates(strict bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strict = strict
}

// DisableExposed disables a key as Google does by itself with one that it finds in public (Google's docs: constraint
// iam.serviceAccountKeyExposureResponse). It fails for an unknown key.
func (g *GoogleIAM) DisableExposed(email, keyID string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accounts[email]
	if a == nil || a.find(keyID) == nil || a.find(keyID).deleted {
		return fmt.Errorf("simulated key %s of %s: no such key", keyID, email)
	}
	g.disable(a, a.find(keyID))
	return nil
}

// disable makes a key refused, RevocationLag late. The caller holds mu.
func (g *GoogleIAM) disable(a *googleAccount, k *googleKey) {
	if k.disabled {
		return
	}
	k.disabled, k.refusedFrom = true, g.cloud.Now().Add(g.cloud.Timing().RevocationLag)
	g.cloud.Record(Event{Kind: KeyDisabled, Service: GoogleIAMService, Target: a.email, KeyID: k.id})
}

// ManagedPolicies makes the constraints that forbid keys the managed ones (iam.managed.disableServiceAccountKeyCreation
// and iam.managed.disableServiceAccountKeyUpload), which organizations made since 3 May 2024 have by default. Google tells
// them in another form than the older ones.
func (g *GoogleIAM) ManagedPolicies(managed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.managed = managed
}

// ForbidKeyCreation sets constraint iam.disableServiceAccountKeyCreation, or the managed one.
func (g *GoogleIAM) ForbidKeyCreation(forbid bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forbidsCreation = forbid
}

// ForbidKeyUpload sets constraint iam.disableServiceAccountKeyUpload, or the managed one.
func (g *GoogleIAM) ForbidKeyUpload(forbid bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forbidsUpload = forbid
}

// CreateForeignKey makes a key as a person does in the console: no request of ours, no stamp. value is the file
// that the person downloads. It fails for an unknown or full account.
func (g *GoogleIAM) CreateForeignKey(email string) (keyID string, value secret.Value, err error) {
	private, err := g.keyPair()
	if err != nil {
		return "", secret.Value{}, fmt.Errorf("simulated key of %s: %w", email, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accounts[email]
	if a == nil {
		return "", secret.Value{}, fmt.Errorf("simulated key of %s: no such account", email)
	}
	if a.full() {
		return "", secret.Value{}, fmt.Errorf("simulated key of %s: the account is full", email)
	}
	k, file, err := g.addCreated(a, private)
	if err != nil {
		return "", secret.Value{}, fmt.Errorf("simulated key of %s: %w", email, err)
	}
	return k.id, secret.New(file), nil
}

// identify finds the id of a key in the file that applications use.
func (g *GoogleIAM) identify(v secret.Value) (keyID string, ok bool) {
	var file struct {
		Email string `json:"client_email"`
		KeyID string `json:"private_key_id"`
	}
	if json.Unmarshal([]byte(v.Reveal()), &file) != nil {
		return "", false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accounts[file.Email]
	if a == nil || a.find(file.KeyID) == nil {
		return "", false
	}
	return file.KeyID, true
}

// addCreated makes private a key that Google made. The caller holds mu.
func (g *GoogleIAM) addCreated(a *googleAccount, private *rsa.PrivateKey) (*googleKey, []byte, error) {
	now := g.cloud.Now().UTC().Truncate(time.Second)
	until := googleNoExpiry
	if g.opts.KeyLifetime > 0 {
		until = now.Add(g.opts.KeyLifetime)
	}
	// Google's own certificates carry the account's numeric id as common name.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: a.uniqueID}, NotBefore: now, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	k := &googleKey{
		id: randomHex(20), origin: adminpb.ServiceAccountKeyOrigin_GOOGLE_PROVIDED, public: &private.PublicKey,
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), validFrom: now, validUntil: until,
	}
	file, err := json.MarshalIndent(map[string]string{
		"type": "service_account", "project_id": a.project, "private_key_id": k.id,
		"private_key":                 string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
		"client_email":                a.email,
		"client_id":                   a.uniqueID,
		"auth_uri":                    "https://accounts.google.com/o/oauth2/auth",
		"token_uri":                   g.TokenURL,
		"auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
		"client_x509_cert_url":        "https://www.googleapis.com/robot/v1/metadata/x509/" + strings.ReplaceAll(a.email, "@", "%40"),
		"universe_domain":             "googleapis.com",
	}, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	g.add(a, k, "")
	return k, file, nil
}

// add puts a key into its account, where others see it late. The caller holds mu.
func (g *GoogleIAM) add(a *googleAccount, k *googleKey, stamp string) {
	now, timing := g.cloud.Now(), g.cloud.Timing()
	k.acceptedFrom, k.listedFrom, k.visibleFrom = now.Add(timing.Propagation), now.Add(timing.ListLag), now.Add(timing.VisibleLag)
	a.keys = append(a.keys, k)
	g.cloud.Record(Event{Kind: KeyCreated, Service: GoogleIAMService, Target: a.email, KeyID: k.id, Stamp: stamp})
}

func (a *googleAccount) find(id string) *googleKey {
	for _, k := range a.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

func (a *googleAccount) full() bool {
	n := 0
	for _, k := range a.keys {
		if !k.system && !k.deleted {
			n++
		}
	}
	return n >= googleKeyLimit
}

// accepted reports whether the token endpoint takes the key's signature.
func (k *googleKey) accepted(now time.Time) bool {
	return k.public != nil && !now.Before(k.acceptedFrom) && (k.refusedFrom.IsZero() || now.Before(k.refusedFrom)) &&
		!now.Before(k.validFrom) && now.Before(k.validUntil)
}

// listed reports whether a list shows the key.
func (k *googleKey) listed(now time.Time) bool {
	return !now.Before(k.listedFrom) && (k.unlistedFrom.IsZero() || now.Before(k.unlistedFrom))
}

func (k *googleKey) proto(a *googleAccount) *adminpb.ServiceAccountKey {
	kind := adminpb.ListServiceAccountKeysRequest_USER_MANAGED
	if k.system {
		kind = adminpb.ListServiceAccountKeysRequest_SYSTEM_MANAGED
	}
	return &adminpb.ServiceAccountKey{
		Name:         "projects/" + a.project + "/serviceAccounts/" + a.email + "/keys/" + k.id,
		KeyAlgorithm: adminpb.ServiceAccountKeyAlgorithm_KEY_ALG_RSA_2048, KeyOrigin: k.origin, KeyType: kind, Disabled: k.disabled,
		ValidAfterTime: timestamppb.New(k.validFrom), ValidBeforeTime: timestamppb.New(k.validUntil),
	}
}

var accountName = regexp.MustCompile(`^[^@]+@(.+)\.iam\.gserviceaccount\.com$`)

// projectOf reads the project from an email as Google forms it; a domain-scoped project example.com:app has
// accounts at app.example.com.iam.gserviceaccount.com.
func projectOf(email string) string {
	m := accountName.FindStringSubmatch(email)
	if m == nil {
		return "simulated-project"
	}
	if id, domain, scoped := strings.Cut(m[1], "."); scoped {
		return domain + ":" + id
	}
	return m[1]
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func digits(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	return string(b)
}
