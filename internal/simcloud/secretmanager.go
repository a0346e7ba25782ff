package simcloud

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"

	"github.com/rekeyhq/rekey/secret"
)

// SecretManagerService is the service as journal and faults name it. Its methods are those of the gRPC service
// (AddSecretVersion, …). The target of a request is the resource name that it is about; the target of a Published,
// VersionAdded or VersionDestroyed event is projects/<project>/secrets/<secret>, with the project's id.
const SecretManagerService = "secret-manager"

// How the applications of a secret find its value.
const (
	// ReadCurrent: by the alias `current`. Those of a secret that was created with a value and has no such alias
	// yet read `latest`.
	ReadCurrent = "current"
	// ReadLatest: the newest version.
	ReadLatest = "latest"
	// ReadByNobody: no application reads the secret.
	ReadByNobody = "-"
)

// SecretManagerOptions set up a simulated Secret Manager. The zero value is one without secrets and quotas.
type SecretManagerOptions struct {
	// Project is the id of the project; "acme-prod" if empty. Answers name it by its number, as the real ones do.
	Project string
	// Readers says how the applications of a secret read it: ReadLatest, ReadByNobody, or the name of an alias. What
	// is not listed is read by nobody if its name ends in "-rekey-pending", else as "*" says, else as ReadCurrent.
	Readers map[string]string
	// Quota enforces what Google's quota page allows one global secret: 2 AddSecretVersion and UpdateSecret in a
	// second, and for one version 1 enable, disable or destroy in a second.
	Quota bool
}

// projectNumber is what answers call the project. Requests may use it or the id.
const projectNumber = "402613598871"

// SecretManager is Google's Secret Manager over gRPC, global secrets only.
//
// It has the real one's lags: readers by alias or `latest` see the former target until Timing.AliasLag has
// passed, lists miss new versions for Timing.ListLag; access by number sees everything at once (Google's docs on
// consistency promise that for a version that was just added, and for nothing else).
type SecretManager struct {
	// Endpoint is host:port of the gRPC service.
	Endpoint string

	cloud *Cloud
	opts  SecretManagerOptions
	stop  func()

	mu      sync.Mutex
	secrets map[string]*smSecret
	seen    []secret.Value
	denied  map[string]bool
	etags   int
	damage  bool
	// noEtags and keepsAliases: see OmitEtags and IgnoreAliases.
	noEtags, keepsAliases bool
}

type smSecret struct {
	id                  string
	etag                string
	created             time.Time
	labels, annotations map[string]string
	aliases             map[string]int64
	replication         *secretmanagerpb.Replication
	versions            []*smVersion
	// moves says which version a name ("latest" or an alias) meant from when on; 0 is none.
	moves map[string][]smMove
	// inPlace: the secret had a value before anybody set an alias.
	inPlace bool
	writes  []time.Time
	// published is what its applications read, as it was last written to the journal.
	published string
}

type smMove struct {
	visible time.Time
	version int64
}

type smVersion struct {
	number    int64
	value     secret.Value
	crc       int64
	checked   bool
	state     secretmanagerpb.SecretVersion_State
	etag      string
	created   time.Time
	destroyed time.Time
	listed    time.Time
	writes    []time.Time
}

// StartSecretManager serves Google's Secret Manager on loopback until Stop.
func (c *Cloud) StartSecretManager(opts SecretManagerOptions) (*SecretManager, error) {
	if opts.Project == "" {
		opts.Project = "acme-prod"
	}
	m := &SecretManager{cloud: c, opts: opts, secrets: map[string]*smSecret{}, denied: map[string]bool{}}
	address, stop, err := c.ServeGRPC(SecretManagerService, targetOfSecretManager, func(s *grpc.Server) {
		secretmanagerpb.RegisterSecretManagerServiceServer(s, secretManagerAPI{SecretManager: m})
	})
	if err != nil {
		return nil, err
	}
	m.Endpoint, m.stop = address, stop
	return m, nil
}

// Stop ends the server.
func (m *SecretManager) Stop() { m.stop() }

// CreateSecret makes a secret as an operator does before rekey comes: with firstValue as version 1, unless that is
// empty. Everybody sees it at once. It has no aliases; SetAlias sets one.
func (m *SecretManager) CreateSecret(id string, firstValue secret.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !secretID.MatchString(id) || m.secrets[id] != nil {
		return fmt.Errorf("simulated secret %q: bad name, or it exists", id)
	}
	s := m.newSecret(id)
	if !firstValue.IsEmpty() {
		s.inPlace = true
		m.add(s, firstValue, false, Timing{})
	}
	return nil
}

// AddVersion adds a version as a person does in the console, and returns its number.
func (m *SecretManager) AddVersion(id string, v secret.Value) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secrets[id]
	if s == nil {
		return 0, fmt.Errorf("simulated secret %q does not exist", id)
	}
	return m.add(s, v, false, m.cloud.Timing()).number, nil
}

// SetAlias points an alias at a version as a person does in the console. Readers see it AliasLag later.
func (m *SecretManager) SetAlias(id, alias string, version int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secrets[id]
	if s == nil || s.version(version) == nil {
		return fmt.Errorf("simulated secret %q has no version %d", id, version)
	}
	s.aliases[alias] = version
	s.move(alias, version, m.cloud.Now().Add(m.cloud.Timing().AliasLag))
	s.etag = m.nextEtag()
	m.publish(s)
	return nil
}

// Seen returns every value that was ever stored here, destroyed ones too: what a search for leaks looks for.
func (m *SecretManager) Seen() []secret.Value {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

// Deny takes a permission ("secretmanager.secrets.update") away from rekey's identity; Allow gives it back.
func (m *SecretManager) Deny(permission string) { m.setDenied(permission, true) }

// Allow returns back what Deny took.
func (m *SecretManager) Allow(permission string) { m.setDenied(permission, false) }

func (m *SecretManager) setDenied(permission string, denied bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.denied[permission] = denied
}

// DamageNextAccess turns a bit of the next payload that is read, on the way to the caller.
func (m *SecretManager) DamageNextAccess() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.damage = true
}

// OmitEtags leaves the etags out of the answers about secrets: an optional field, in the proto.
func (m *SecretManager) OmitEtags(omit bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noEtags = omit
}

// IgnoreAliases makes an update succeed and leave the aliases as they are, as a service does that does not know them.
func (m *SecretManager) IgnoreAliases(ignore bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keepsAliases = ignore
}

// newSecret makes an empty secret. The caller holds mu.
func (m *SecretManager) newSecret(id string) *smSecret {
	s := &smSecret{
		id: id, etag: m.nextEtag(), created: m.cloud.Now(), labels: map[string]string{},
		annotations: map[string]string{}, aliases: map[string]int64{}, moves: map[string][]smMove{},
		replication: &secretmanagerpb.Replication{Replication: &secretmanagerpb.Replication_Automatic_{Automatic: &secretmanagerpb.Replication_Automatic{}}},
	}
	m.secrets[id] = s
	return s
}

// add appends a version. The caller holds mu.
func (m *SecretManager) add(s *smSecret, value secret.Value, checked bool, lag Timing) *smVersion {
	now := m.cloud.Now()
	v := &smVersion{
		number: int64(len(s.versions) + 1), value: value, crc: crcOf([]byte(value.Reveal())), checked: checked,
		state: secretmanagerpb.SecretVersion_ENABLED, etag: m.nextEtag(), created: now, listed: now.Add(lag.ListLag),
	}
	s.versions = append(s.versions, v)
	m.seen = append(m.seen, value)
	s.move(ReadLatest, v.number, now.Add(lag.AliasLag))
	m.cloud.Record(Event{
		Kind: VersionAdded, Service: SecretManagerService, Target: m.pathOf(s),
		KeyID: m.cloud.KeyID(value), Version: fmt.Sprint(v.number),
	})
	m.publish(s)
	return v
}

// publish writes to the journal what applications read, if that changed. The caller holds mu.
func (m *SecretManager) publish(s *smSecret) {
	number := s.newest()
	switch by := m.readersOf(s.id); by {
	case ReadByNobody:
		return
	case ReadLatest:
	default:
		if target, ok := s.aliases[by]; ok || !s.inPlace {
			number = target
		}
	}
	e := Event{Kind: Published, Service: SecretManagerService, Target: m.pathOf(s)}
	what := ""
	// A version that is not enabled cannot be read: the event then names no key.
	if v := s.version(number); v != nil && v.state == secretmanagerpb.SecretVersion_ENABLED {
		e.KeyID, e.Version = m.cloud.KeyID(v.value), fmt.Sprint(number)
		what = v.value.Fingerprint()
	}
	if what == s.published {
		return
	}
	s.published = what
	m.cloud.Record(e)
}

func (m *SecretManager) readersOf(id string) string {
	if by := m.opts.Readers[id]; by != "" {
		return by
	}
	if strings.HasSuffix(id, "-rekey-pending") {
		return ReadByNobody
	}
	if by := m.opts.Readers["*"]; by != "" {
		return by
	}
	return ReadCurrent
}

// pathOf is what the journal calls a secret.
func (m *SecretManager) pathOf(s *smSecret) string {
	return "projects/" + m.opts.Project + "/secrets/" + s.id
}

// nextEtag returns an etag that was never used, quoted like the real ones.
func (m *SecretManager) nextEtag() string {
	m.etags++
	return fmt.Sprintf("%q", fmt.Sprintf("16%012x", m.etags))
}

func (s *smSecret) version(number int64) *smVersion {
	if number < 1 || number > int64(len(s.versions)) {
		return nil
	}
	return s.versions[number-1]
}

func (s *smSecret) newest() int64 { return int64(len(s.versions)) }

func (s *smSecret) move(name string, version int64, visible time.Time) {
	s.moves[name] = append(s.moves[name], smMove{visible: visible, version: version})
}

// seen is the version that readers by name get now; 0 if they know none.
func (s *smSecret) seen(name string, now time.Time) int64 {
	var number int64
	for _, move := range s.moves[name] {
		if !move.visible.After(now) {
			number = move.version
		}
	}
	return number
}
