// Package awssm is the store aws-secrets-manager: secrets of AWS Secrets Manager in one account and region. A path is
// the name of a secret; applications read its version AWSCURRENT.
//
// A version's number is its VersionId, which is the ClientRequestToken of the request that made it. Each version that
// this package adds carries a label of its own (rekey-keep-<VersionId>): AWS may delete versions without a label, and
// has no request that deletes one. So Destroy takes all labels away, and a version without labels counts as destroyed.
// Until AWS deletes it, whoever may read the secret and knows the id can still read the value. Rotations destroy a
// version only after its key was revoked.
//
// # The record
//
// AWS keeps nothing beside a secret's values that could be changed by compare-and-set, except labels. So the record
// lives in a second secret, rekey/<path>, as a version for each state of it, and the label rekey-record says which one
// counts. Save adds a version, then moves the label with UpdateSecretVersionStage from the version that was loaded to
// the new one. AWS's reference says that this fails if the label is not on the version that RemoveFromVersionId names
// (or, without it, if the label is on any): that is the compare and the set. Version ids are never used twice, so the
// label never comes back to a version that somebody remembers, and a request that takes effect late finds the label
// elsewhere and fails. This rests on AWS checking and moving a label in one step.
//
// It is a second secret because AWS makes the first version of a secret AWSCURRENT, whatever labels the request asks
// for: in the secret itself, the record of a first rotation would be what applications read as their key. For the same
// reason the first value of an empty secret waits for its promote in the second one.
//
// # Promote
//
// Two secrets do not change together, so Promote first saves the record with a note of what it is about to publish, and
// then moves AWSCURRENT, again from the version that it was loaded with. That move is the commit: a record with a note
// reads as promoted where AWSCURRENT is where the note says, and as before where it is not. A Promote that was cut off
// needs no repair.
package awssm

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/logging"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// Options set up a Store.
type Options struct {
	// Name is how messages call this store; "aws-secrets-manager" if empty.
	Name string
	// Region is the AWS region of the secrets.
	Region string
	// Endpoint is the base address of another Secrets Manager: http on loopback, or https below a domain of AWS's (a VPC
	// endpoint). Empty means the region's own.
	Endpoint string
	// Credentials are those that rekey itself calls with; nil only on loopback. Nothing is taken from the environment.
	Credentials aws.CredentialsProvider
	// RequestTimeout bounds one request; 30 s if 0. A method makes a few.
	RequestTimeout time.Duration
	// ReadLag is how long applications may read the former value after Promote; 5 min if 0, which is what AWS's Lambda
	// extension caches for. AWS's caching clients read again only after an hour, unless configured otherwise.
	ReadLag time.Duration
}

// Store keeps values in AWS Secrets Manager. See store.Store for what its methods promise.
type Store struct {
	opts Options
	sm   *secretsmanager.Client
	// seen holds the record that was last read or written of each path. Versions never change, so that one with the
	// right id is as good as reading it again.
	seen sync.Map
}

var (
	_ store.Store = (*Store)(nil)
	_ store.Dated = (*Store)(nil)
)

var regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)

// The pair of keys that goes to a Secrets Manager on loopback. It opens nothing anywhere else.
const (
	loopbackAccessKey = "AKIDREKEYLOOPBACK000"
	loopbackSecretKey = "rekey-loopback-only-not-a-secret-of-anybody"
)

// New makes a Store. It asks nobody anything yet. A Rejected fault says which option is wrong.
func New(o Options) (*Store, error) {
	if o.Name == "" {
		o.Name = "aws-secrets-manager"
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 30 * time.Second
	}
	if o.ReadLag == 0 {
		o.ReadLag = 5 * time.Minute
	}
	doing := "set up " + o.Name
	if !ValidRegion(o.Region) {
		return nil, fault.New(fault.Rejected, "bad_region", doing).WithAdvice("say in which region the secrets are, such as eu-central-1.")
	}
	loopback := false
	if o.Endpoint != "" {
		var ok bool
		if loopback, ok = judgeEndpoint(o.Endpoint); !ok {
			return nil, fault.New(fault.Rejected, "bad_endpoint", doing).WithAdvice("another endpoint must be http://host:port on loopback, or https:// with a host below amazonaws.com (or AWS's domain in China or in the European Sovereign Cloud).")
		}
	}
	if o.Credentials == nil && loopback {
		o.Credentials = credentials.NewStaticCredentialsProvider(loopbackAccessKey, loopbackSecretKey, "")
	}
	if o.Credentials == nil {
		return nil, fault.New(fault.Rejected, "no_credentials", doing).WithAdvice("say with which credentials rekey calls AWS; this package takes none from the environment.")
	}
	s := &Store{opts: o}
	s.sm = secretsmanager.New(secretsmanager.Options{
		Region: o.Region, BaseEndpoint: endpoint(o.Endpoint), Credentials: aws.NewCredentialsCache(marked{o.Credentials}),
		// Repeating is the caller's business, who knows how long.
		Retryer: aws.NopRetryer{}, HTTPClient: httpClient(),
		// The SDK can be configured to log bodies, which hold values.
		ClientLogMode: 0, Logger: logging.Nop{},
	})
	return s, nil
}

func endpoint(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// ValidRegion reports whether a text can be the name of a region.
func ValidRegion(text string) bool { return regionName.MatchString(text) }

// domains are those of AWS's endpoints, as its SDK has them: everywhere, in China, in the European Sovereign Cloud.
var domains = []string{".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.amazonwebservices.eu"}

// ValidEndpoint reports whether an endpoint may get values: https below a domain of AWS's, or http on loopback.
func ValidEndpoint(text string) bool {
	_, ok := judgeEndpoint(text)
	return ok
}

// judgeEndpoint reports whether an endpoint may get values.
func judgeEndpoint(text string) (loopback, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return false, false
	}
	host := u.Hostname()
	if u.Scheme == "https" {
		return false, slices.ContainsFunc(domains, func(d string) bool { return strings.HasSuffix(host, d) })
	}
	return true, u.Scheme == "http" && u.Port() != "" && (host == "localhost" || host == "127.0.0.1" || host == "::1")
}

// httpClient follows no redirects: a signed request, or a value, goes where it was meant to go.
func httpClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Capabilities: moving a label allows compare-and-set.
func (s *Store) Capabilities() store.Capabilities {
	return store.Capabilities{CompareAndSet: true, ReadLag: s.opts.ReadLag}
}

// Console is the secret's page.
func (s *Store) Console(path string) string {
	name := strings.ReplaceAll(url.QueryEscape(path), "%2F", "/")
	return "https://" + s.opts.Region + ".console.aws.amazon.com/secretsmanager/secret?name=" + name + "&region=" + s.opts.Region
}
