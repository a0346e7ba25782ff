package simcloud

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekeyhq/rekey/secret"
)

// AWSSecretsService is the service as journal and faults name it. Its methods are AWS's operations (PutSecretValue, …).
// The target of a request and of an event is the secret's complete ARN; of a request for a secret that does not
// exist, what it asked for.
const AWSSecretsService = "aws-secrets-manager"

// The credentials that the simulated AWS knows; it checks the signature of every request.
const (
	AWSAccessKey = "AKIDREKEYLOOPBACK000"
	AWSSecretKey = "rekey-loopback-only-not-a-secret-of-anybody"
)

// AWSSecretsOptions set up a simulated AWS Secrets Manager. The zero value is one without secrets and quotas.
type AWSSecretsOptions struct {
	// Region is "eu-central-1" if empty.
	Region string
	// Quota enforces AWS's 50 writes in a second (quotas page).
	Quota bool
}

// awsAccount is the account that owns everything.
const awsAccount = "123456789012"

// The limits of AWS's API reference and quotas page.
const (
	awsMaxValue    = 64 << 10
	awsMaxLabels   = 20
	awsMaxVersions = 100
	awsWriteRate   = 50
)

// AWSSecrets is AWS Secrets Manager: JSON 1.1 over HTTP.
type AWSSecrets struct {
	// URL is the endpoint, Region the region that it serves.
	URL, Region string

	cloud *Cloud
	opts  AWSSecretsOptions
	stop  func()

	mu       sync.Mutex
	secrets  map[string]*awsSecret
	seen     []secret.Value
	denied   map[string]bool
	writes   []time.Time
	lastMade time.Time
	lambdas  map[string]AWSLambda
	// overwrites and echoes: see OverwriteLabels and EchoLabels.
	overwrites, echoes bool
}

type awsSecret struct {
	name, arn string
	created   time.Time
	versions  []*awsVersion
	rotating  bool
	lambda    string
	published string
}

// awsVersion is a version; one that RotateSecret made has no value until the rotation puts one.
type awsVersion struct {
	id      string
	value   secret.Value
	binary  bool
	labels  []string
	created time.Time
}

// The labels that mean something to AWS.
const (
	awsCurrent  = "AWSCURRENT"
	awsPrevious = "AWSPREVIOUS"
	awsPending  = "AWSPENDING"
)

// StartAWSSecrets serves AWS Secrets Manager on loopback until Stop.
func (c *Cloud) StartAWSSecrets(opts AWSSecretsOptions) (*AWSSecrets, error) {
	if opts.Region == "" {
		opts.Region = "eu-central-1"
	}
	m := &AWSSecrets{Region: opts.Region, cloud: c, opts: opts, secrets: map[string]*awsSecret{}, denied: map[string]bool{}, lambdas: map[string]AWSLambda{}}
	url, stop, err := c.ServeHTTP(AWSSecretsService, m.route, m.injected, m)
	if err != nil {
		return nil, err
	}
	m.URL, m.stop = url, stop
	return m, nil
}

// Stop ends the server.
func (m *AWSSecrets) Stop() { m.stop() }

// CreateSecret makes a secret as an operator does before rekey comes: with firstValue as AWSCURRENT, or without any
// version if that is empty. It returns the secret's ARN.
func (m *AWSSecrets) CreateSecret(name string, firstValue secret.Value) (arn string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !awsName.MatchString(name) || m.secrets[name] != nil {
		return "", fmt.Errorf("simulated secret %q: bad name, or it exists", name)
	}
	s := m.newSecret(name)
	if !firstValue.IsEmpty() {
		m.add(s, strings.ToLower(rand.Text())+"-0000-0000", firstValue, false, nil)
	}
	return s.arn, nil
}

// PutValue makes v what applications read, as a person does in the console, and returns the version's id.
func (m *AWSSecrets) PutValue(name string, v secret.Value) (id string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secrets[name]
	if s == nil {
		return "", fmt.Errorf("simulated secret %q does not exist", name)
	}
	return m.add(s, strings.ToLower(rand.Text())+"-0000-0000", v, false, []string{awsCurrent}).id, nil
}

// Labels returns the versions of a secret that have labels, with their labels.
func (m *AWSSecrets) Labels(name string) map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secrets[name].stages()
}

// Seen returns every value that was ever stored here: what a search for leaks looks for.
func (m *AWSSecrets) Seen() []secret.Value {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

// Deny takes the permission for an operation ("PutSecretValue") away from rekey's identity; Allow gives it back.
func (m *AWSSecrets) Deny(operation string) { m.setDenied(operation, true) }

// Allow returns back what Deny took.
func (m *AWSSecrets) Allow(operation string) { m.setDenied(operation, false) }

func (m *AWSSecrets) setDenied(operation string, denied bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.denied[operation] = denied
}

// OverwriteLabels makes a put of a version that exists give it the labels of the request instead of its own, AWSCURRENT
// included: so does a widely used emulator of AWS (moto 5.2.1), which may stand where rekey is tried out. AWS itself does
// nothing (API reference, PutSecretValue).
func (m *AWSSecrets) OverwriteLabels(overwrite bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.overwrites = overwrite
}

// EchoLabels makes the answer to a put that did nothing name the labels of the request, and not those that the version has.
// Which it is, is not documented.
func (m *AWSSecrets) EchoLabels(echo bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.echoes = echo
}

// newSecret makes an empty secret. AWS appends a hyphen and six random characters to the name in its ARN (API
// reference, CreateSecret). The caller holds mu.
func (m *AWSSecrets) newSecret(name string) *awsSecret {
	s := &awsSecret{
		name: name, created: m.cloud.Now(),
		arn: fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s-%s", m.opts.Region, awsAccount, name, rand.Text()[:6]),
	}
	m.secrets[name] = s
	return s
}

// add makes a version with labels, or fills the one that RotateSecret made. The first version of a secret becomes
// AWSCURRENT whatever its labels (API reference, PutSecretValue). The caller holds mu.
func (m *AWSSecrets) add(s *awsSecret, id string, value secret.Value, binary bool, labels []string) *awsVersion {
	first := !slices.ContainsFunc(s.versions, func(v *awsVersion) bool { return slices.Contains(v.labels, awsCurrent) })
	v := s.version(id)
	if v == nil {
		v = m.newVersion(s, id)
	}
	v.value, v.binary = value, binary
	if len(labels) == 0 || first && !slices.Contains(labels, awsCurrent) {
		labels = append(slices.Clone(labels), awsCurrent)
	}
	for _, l := range labels {
		s.move(l, v)
	}
	m.seen = append(m.seen, value)
	m.cloud.Record(Event{Kind: VersionAdded, Service: AWSSecretsService, Target: s.arn, KeyID: m.cloud.KeyID(value), Version: v.id})
	m.publish(s)
	return v
}

// newVersion makes a version without value and labels. No two have the same time, so that they have an order.
func (m *AWSSecrets) newVersion(s *awsSecret, id string) *awsVersion {
	now := m.cloud.Now().Truncate(time.Millisecond)
	if !now.After(m.lastMade) {
		now = m.lastMade.Add(time.Millisecond)
	}
	m.lastMade = now
	v := &awsVersion{id: id, created: now}
	s.versions = append(s.versions, v)
	return v
}

// prune removes unlabelled versions when there are more than 100, but none that is younger than a day (quotas page).
func (s *awsSecret) prune(now time.Time) {
	for i := 0; i < len(s.versions) && len(s.versions) >= awsMaxVersions; {
		if v := s.versions[i]; len(v.labels) == 0 && now.Sub(v.created) > 24*time.Hour {
			s.versions = slices.Delete(s.versions, i, i+1)
			continue
		}
		i++
	}
}

// publish writes to the journal what applications read, if that changed. The caller holds mu.
func (m *AWSSecrets) publish(s *awsSecret) {
	v := s.labelled(awsCurrent)
	if v == nil || v.value.Fingerprint() == s.published || strings.HasPrefix(s.name, "rekey/") {
		return
	}
	s.published = v.value.Fingerprint()
	m.cloud.Record(Event{Kind: Published, Service: AWSSecretsService, Target: s.arn, KeyID: m.cloud.KeyID(v.value), Version: v.id})
}

func (s *awsSecret) version(id string) *awsVersion {
	i := slices.IndexFunc(s.versions, func(v *awsVersion) bool { return v.id == id })
	if i < 0 {
		return nil
	}
	return s.versions[i]
}

// labelled is the version that has a label; nil if none has it.
func (s *awsSecret) labelled(label string) *awsVersion {
	i := slices.IndexFunc(s.versions, func(v *awsVersion) bool { return slices.Contains(v.labels, label) })
	if i < 0 {
		return nil
	}
	return s.versions[i]
}

// move returns a label to a version; a label is on one version at a time, and where AWSCURRENT was is AWSPREVIOUS then
// (API reference, UpdateSecretVersionStage).
func (s *awsSecret) move(label string, to *awsVersion) {
	from := s.labelled(label)
	if from == to {
		return
	}
	if from != nil {
		from.labels = slices.DeleteFunc(from.labels, func(l string) bool { return l == label })
		if label == awsCurrent {
			s.move(awsPrevious, from)
		}
	}
	if to != nil {
		to.labels = append(to.labels, label)
		if label == awsCurrent {
			to.labels = slices.DeleteFunc(to.labels, func(l string) bool { return l == awsPrevious })
		}
	}
}

func (s *awsSecret) stages() map[string][]string {
	out := map[string][]string{}
	for _, v := range s.versions {
		if len(v.labels) > 0 {
			out[v.id] = slices.Sorted(slices.Values(v.labels))
		}
	}
	return out
}
