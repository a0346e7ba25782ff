// Package scenario sets up a simulated cloud with keys in it, and writes the rekey.yaml that reaches it: for the demo,
// and for tests that go through the real configuration.
package scenario

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/secret"
)

// The stores that a scenario's keys can be in.
const (
	// Alias is Google Secret Manager, read by the alias `current`.
	Alias = "gsm"
	// Latest is Google Secret Manager, read as `latest`.
	Latest = "gsm-latest"
	// Local is an encrypted file.
	Local = "local"
	// AWS is AWS Secrets Manager.
	AWS = "asm"
)

// Project is the Google Cloud project of a scenario.
const Project = "acme-prod"

// Options set up a Scenario.
type Options struct {
	// Now is the cloud's clock; nil means the real one.
	Now func() time.Time
	// Dir is where the local store keeps its files; empty: no local store.
	Dir string
	// Install is the install id; empty means "scene1".
	Install string
	// Mode of google-service-account: "upload" (also if empty) or "create".
	Mode string
	// Policy is laid over the tier's preset for every key, one `field: value` a line.
	Policy []string
	// Operators may sign decisions: an entry of the list a line, like `{name: alice, ssh_key: "ssh-ed25519 AAAA…"}`.
	Operators []string
	// RequestTimeout, Propagation, RevocationLag and ListLag are what the configuration says of the providers; empty
	// means 2s, 1m, 1m and 0s.
	RequestTimeout, Propagation, RevocationLag, ListLag string
	// Google is laid over the provider of Google keys, one `field: value` a line.
	Google []string
	// KeyBits is the size of the RSA keys that Google makes; 0 means 2048, which takes a tenth of a second.
	KeyBits int
	// Quota enforces the quotas of Google Secret Manager.
	Quota bool
	// ReadLag is what the configuration says of the stores; empty means 0s.
	ReadLag string
	// Channels starts a receiver of messages and adds the channels `team` (Slack) and `oncall` (a webhook) to the
	// configuration; Quiet are the hours of team, one `field: value` a line. It needs Dir for the files of their secrets.
	Channels bool
	Quiet    []string
	// AWS starts AWS Secrets Manager and adds the store `asm`.
	AWS bool
}

// Scenario is a running simulated cloud.
type Scenario struct {
	Cloud  *simcloud.Cloud
	IAM    *simcloud.GoogleIAM
	SM     *simcloud.SecretManager
	OpenAI *simcloud.OpenAI
	// AWS is nil without Options.AWS.
	AWS *simcloud.AWSSecrets
	// Post is nil without Channels.
	Post *simcloud.Receiver

	opts    Options
	readers map[string]string
	keys    []string
	first   map[string]secret.Value
	arns    map[string]string
}

// Start starts the services. Stop them with Stop.
func Start(o Options) (s *Scenario, err error) {
	for field, standard := range map[*string]string{
		&o.Install: "scene1", &o.Mode: "upload", &o.RequestTimeout: "2s", &o.Propagation: "1m", &o.RevocationLag: "1m", &o.ListLag: "0s", &o.ReadLag: "0s",
	} {
		if *field == "" {
			*field = standard
		}
	}
	s = &Scenario{Cloud: simcloud.New(o.Now), opts: o, readers: map[string]string{}, first: map[string]secret.Value{}, arns: map[string]string{}}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if s.IAM, err = s.Cloud.StartGoogleIAM(simcloud.GoogleIAMOptions{KeyBits: o.KeyBits}); err != nil {
		return s, err
	}
	if s.SM, err = s.Cloud.StartSecretManager(simcloud.SecretManagerOptions{Project: Project, Readers: s.readers, Quota: o.Quota}); err != nil {
		return s, err
	}
	if s.OpenAI, err = s.Cloud.StartOpenAI(simcloud.OpenAIOptions{}); err != nil {
		return s, err
	}
	if o.AWS {
		if s.AWS, err = s.Cloud.StartAWSSecrets(simcloud.AWSSecretsOptions{}); err != nil {
			return s, err
		}
	}
	if !o.Channels {
		return s, nil
	}
	err = s.startPost()
	return s, err
}

// Stop ends all services.
func (s *Scenario) Stop() {
	if s.IAM != nil {
		s.IAM.Stop()
	}
	if s.SM != nil {
		s.SM.Stop()
	}
	if s.OpenAI != nil {
		s.OpenAI.Stop()
	}
	if s.AWS != nil {
		s.AWS.Stop()
	}
	if s.Post != nil {
		s.Post.Stop()
	}
}

// Account is the service account of a Google key of the scenario.
func Account(name string) string { return name + "@" + Project + ".iam.gserviceaccount.com" }

// OpenAIProject is the project of an OpenAI key of the scenario.
func OpenAIProject(name string) string { return "proj_" + strings.ReplaceAll(name, "-", "") }

// Path is where the journal says that a key's value is in a store.
func Path(store, name string) string {
	return "projects/" + Project + "/secrets/" + secretName(store, name)
}

func secretName(store, name string) string {
	if store == Latest {
		return name + "-latest"
	}
	return name
}

// Google makes a service account with a key that a person made, puts it into the stores, and adds the key to the
// configuration. It returns the id of that key.
func (s *Scenario) Google(name string, stores ...string) (oldID string, err error) {
	s.IAM.AddServiceAccount(Account(name))
	oldID, value, err := s.IAM.CreateForeignKey(Account(name))
	if err != nil {
		return "", err
	}
	return oldID, s.add(name, "google", Account(name), value, oldID, stores)
}

// OpenAIKey makes a project with a key, puts it into the stores, and adds it to the configuration.
func (s *Scenario) OpenAIKey(name string, stores ...string) (oldID string, err error) {
	oldID, value := s.OpenAI.CreateKey(OpenAIProject(name), "made by hand")
	return oldID, s.add(name, "openai", OpenAIProject(name), value, "", stores) // nothing in it says which key it is
}

func (s *Scenario) add(name, provider, account string, value secret.Value, keyID string, stores []string) error {
	s.first[name] = value
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    provider: %s\n    account: %s\n    tier: production\n    stores:\n", name, provider, account)
	for _, store := range stores {
		if err := s.put(store, name, value, keyID); err != nil {
			return err
		}
		fmt.Fprintf(&b, "      - {store: %s, path: %s}\n", store, secretName(store, name))
	}
	if len(s.opts.Policy) > 0 {
		b.WriteString("    policy:\n")
		for _, line := range s.opts.Policy {
			fmt.Fprintf(&b, "      %s\n", line)
		}
	}
	s.keys = append(s.keys, b.String())
	return nil
}

// First is the value that a key had before rekey came.
func (s *Scenario) First(name string) secret.Value { return s.first[name] }

// put stores a first value as it stands before rekey comes.
func (s *Scenario) put(store, name string, value secret.Value, keyID string) error {
	secretID := secretName(store, name)
	switch store {
	case Alias:
		return errors.Join(s.SM.CreateSecret(secretID, value), s.SM.SetAlias(secretID, simcloud.ReadCurrent, 1))
	case Latest:
		s.readers[secretID] = simcloud.ReadLatest
		return errors.Join(s.SM.CreateSecret(secretID, value), s.SM.CreateSecret(secretID+"-rekey-pending", secret.Value{}))
	case Local:
		return s.putLocal(secretID, value, keyID)
	case AWS:
		if s.AWS == nil {
			return errors.New("a scenario without AWS has no store on it")
		}
		arn, err := s.AWS.CreateSecret(secretID, value)
		if err == nil {
			_, err = s.AWS.CreateSecret("rekey/"+secretID, secret.Value{})
		}
		s.arns[name] = arn
		return err
	}
	return fmt.Errorf("a scenario has no store %q", store)
}

// YAML is the rekey.yaml that reaches the scenario.
func (s *Scenario) YAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "install: %s\n%sproviders:\n", s.opts.Install, s.channels())
	fmt.Fprintf(&b, "  google:\n    type: google-service-account\n    mode: %s\n    endpoint: %s\n    token_url: %s\n", s.opts.Mode, s.IAM.Endpoint, s.IAM.TokenURL)
	fmt.Fprintf(&b, "    request_timeout: %s\n    list_lag: %s\n    propagation: %s\n    revocation_lag: %s\n", s.opts.RequestTimeout, s.opts.ListLag, s.opts.Propagation, s.opts.RevocationLag)
	for _, line := range s.opts.Google {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	fmt.Fprintf(&b, "  openai:\n    type: openai\n    endpoint: %s\n    request_timeout: %s\n    propagation: %s\n    revocation_lag: %s\n", s.OpenAI.URL, s.opts.RequestTimeout, s.opts.Propagation, s.opts.RevocationLag)
	if len(s.opts.Operators) > 0 {
		b.WriteString("operators:\n")
		for _, line := range s.opts.Operators {
			fmt.Fprintf(&b, "  - %s\n", line)
		}
	}
	b.WriteString("stores:\n")
	for _, store := range []string{Alias, Latest} {
		readers := map[string]string{Alias: "alias", Latest: "latest"}[store]
		fmt.Fprintf(&b, "  %s:\n    type: google-secret-manager\n    project: %s\n    endpoint: %s\n    readers: %s\n    request_timeout: %s\n    read_lag: %s\n", store, Project, s.SM.Endpoint, readers, s.opts.RequestTimeout, s.opts.ReadLag)
	}
	if s.opts.Dir != "" {
		fmt.Fprintf(&b, "  %s:\n    type: local\n    dir: %q\n    identity: %q\n", Local, s.localDir(), s.identity())
	}
	if s.AWS != nil {
		fmt.Fprintf(&b, "  %s:\n    type: aws-secrets-manager\n    region: %s\n    endpoint: %q\n    request_timeout: %s\n    read_lag: %s\n", AWS, s.AWS.Region, s.AWS.URL, s.opts.RequestTimeout, s.opts.ReadLag)
	}
	if len(s.keys) == 0 {
		return b.String()
	}
	return b.String() + "keys:\n" + strings.Join(s.keys, "")
}

func (s *Scenario) localDir() string { return filepath.Join(s.opts.Dir, "secrets") }
func (s *Scenario) identity() string { return filepath.Join(s.opts.Dir, "identity", "identity.txt") }

// Rules are the invariants of one key of the scenario that is in the given stores.
func (s *Scenario) Rules(name string, stores ...string) simcloud.Rules {
	r := Rules(name, slices.DeleteFunc(slices.Clone(stores), func(store string) bool { return store == AWS })...)
	if slices.Contains(stores, AWS) {
		r.Groups[0] = append(r.Groups[0], s.arns[name])
	}
	return r
}

// Rules are the invariants of one key that is in the given stores, none of them on AWS.
func Rules(name string, stores ...string) simcloud.Rules {
	var group []string
	for _, store := range stores {
		if store != Local {
			group = append(group, Path(store, name))
		}
	}
	slices.Sort(group)
	return simcloud.Rules{Groups: [][]string{group}}
}
