package simcloud

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rekeyhq/rekey/secret"
)

// secretManagerAPI is what clients see of a SecretManager.
type secretManagerAPI struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer
	*SecretManager
}

// CreateSecret makes a secret without versions.
func (m secretManagerAPI) CreateSecret(_ context.Context, req *secretmanagerpb.CreateSecretRequest) (*secretmanagerpb.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, want := req.GetSecretId(), req.GetSecret()
	if !secretID.MatchString(id) || req.GetParent() != "projects/"+m.opts.Project && req.GetParent() != "projects/"+projectNumber {
		return nil, errName(req.GetParent() + "/secrets/" + id)
	}
	if want.GetReplication().GetReplication() == nil {
		return nil, status.Error(codes.InvalidArgument, "The replication policy is required.")
	}
	if err := errors.Join(checkLabels(want.GetLabels()), checkAnnotations(want.GetAnnotations())); err != nil || len(want.GetVersionAliases()) > 0 {
		return nil, status.Error(codes.InvalidArgument, "Labels, annotations or version aliases are invalid.")
	}
	if m.denied["secretmanager.secrets.create"] {
		return nil, status.Error(codes.PermissionDenied, "Permission 'secretmanager.secrets.create' denied.")
	}
	if m.secrets[id] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Secret [projects/%s/secrets/%s] already exists.", projectNumber, id)
	}
	s := m.newSecret(id)
	s.replication = want.GetReplication()
	maps.Copy(s.labels, want.GetLabels())
	maps.Copy(s.annotations, want.GetAnnotations())
	return m.secretProto(s), nil
}

// GetSecret returns a secret's metadata.
func (m secretManagerAPI) GetSecret(_ context.Context, req *secretmanagerpb.GetSecretRequest) (*secretmanagerpb.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(req.GetName(), "secretmanager.secrets.get")
	if err != nil {
		return nil, err
	}
	return m.secretProto(s), nil
}

// UpdateSecret changes labels, annotations and version aliases, by compare-and-set if an etag is sent (Google's
// docs on etags: a mismatch is FAILED_PRECONDITION; every update makes a new etag, also one that changes nothing;
// versions and their secret do not touch each other's).
func (m secretManagerAPI) UpdateSecret(_ context.Context, req *secretmanagerpb.UpdateSecretRequest) (*secretmanagerpb.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(req.GetSecret().GetName(), "secretmanager.secrets.update")
	if err != nil {
		return nil, err
	}
	paths, want := req.GetUpdateMask().GetPaths(), req.GetSecret()
	if len(paths) == 0 {
		return nil, status.Error(codes.InvalidArgument, "The update mask is required.")
	}
	for _, path := range paths {
		switch path {
		case "labels":
			err = checkLabels(want.GetLabels())
		case "annotations":
			err = checkAnnotations(want.GetAnnotations())
		case "version_aliases":
			err = s.checkAliases(want.GetVersionAliases())
		default:
			err = status.Errorf(codes.InvalidArgument, "Field %q cannot be updated here.", path)
		}
		if err != nil {
			return nil, err
		}
	}
	if want.GetEtag() != "" && want.GetEtag() != s.etag {
		return nil, errEtag
	}
	if err := m.spend(&s.writes, 2); err != nil {
		return nil, err
	}
	for _, path := range paths {
		switch path {
		case "labels":
			s.labels = maps.Clone(want.GetLabels())
		case "annotations":
			s.annotations = maps.Clone(want.GetAnnotations())
		case "version_aliases":
			if !m.keepsAliases {
				m.setAliases(s, want.GetVersionAliases())
			}
		}
	}
	s.etag = m.nextEtag()
	m.publish(s)
	return m.secretProto(s), nil
}

// setAliases replaces the aliases. The caller holds mu.
func (m secretManagerAPI) setAliases(s *smSecret, want map[string]int64) {
	visible := m.cloud.Now().Add(m.cloud.Timing().AliasLag)
	for name := range s.aliases {
		if _, kept := want[name]; !kept {
			s.move(name, 0, visible)
		}
	}
	for name, number := range want {
		if s.aliases[name] != number {
			s.move(name, number, visible)
		}
	}
	s.aliases = map[string]int64{}
	maps.Copy(s.aliases, want)
}

// AddSecretVersion stores a payload of at most 64 KiB and verifies its checksum if one is sent.
func (m secretManagerAPI) AddSecretVersion(_ context.Context, req *secretmanagerpb.AddSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(req.GetParent(), "secretmanager.versions.add")
	if err != nil {
		return nil, err
	}
	data := req.GetPayload().GetData()
	if len(data) == 0 {
		return nil, status.Error(codes.InvalidArgument, "Secret Payload cannot be empty.")
	}
	if len(data) > maxPayload {
		return nil, status.Errorf(codes.InvalidArgument, "The secret payload is larger than %d bytes.", maxPayload)
	}
	checked := req.GetPayload().DataCrc32C != nil
	if checked && req.GetPayload().GetDataCrc32C() != crcOf(data) {
		return nil, status.Error(codes.InvalidArgument, "The checksum of the payload does not match its data.")
	}
	if err := m.spend(&s.writes, 2); err != nil {
		return nil, err
	}
	return m.versionProto(s, m.add(s, secret.New(data), checked, m.cloud.Timing())), nil
}

// AccessSecretVersion returns a payload, by number at once, by alias or `latest` late.
func (m secretManagerAPI) AccessSecretVersion(_ context.Context, req *secretmanagerpb.AccessSecretVersionRequest) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, v, err := m.findVersion(req.GetName(), "secretmanager.versions.access", true)
	if err != nil {
		return nil, err
	}
	if v.state != secretmanagerpb.SecretVersion_ENABLED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", m.versionName(s, v), v.state)
	}
	data, crc := []byte(v.value.Reveal()), v.crc
	if m.damage {
		data[0] ^= 1
		m.damage = false
	}
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name: m.versionName(s, v), Payload: &secretmanagerpb.SecretPayload{Data: data, DataCrc32C: &crc},
	}, nil
}

// GetSecretVersion returns a version's metadata.
func (m secretManagerAPI) GetSecretVersion(_ context.Context, req *secretmanagerpb.GetSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, v, err := m.findVersion(req.GetName(), "secretmanager.versions.get", true)
	if err != nil {
		return nil, err
	}
	return m.versionProto(s, v), nil
}

// ListSecretVersions returns a secret's versions, newest first; new ones are missing for Timing.ListLag.
func (m secretManagerAPI) ListSecretVersions(_ context.Context, req *secretmanagerpb.ListSecretVersionsRequest) (*secretmanagerpb.ListSecretVersionsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(req.GetParent(), "secretmanager.versions.list")
	if err != nil {
		return nil, err
	}
	wanted, err := stateFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	var all []*secretmanagerpb.SecretVersion
	for _, v := range slices.Backward(s.versions) {
		if !v.listed.After(m.cloud.Now()) && wanted(v.state) {
			all = append(all, m.versionProto(s, v))
		}
	}
	from := 0
	if token := req.GetPageToken(); token != "" {
		if from, err = strconv.Atoi(token); err != nil || from < 0 || from > len(all) {
			return nil, status.Error(codes.InvalidArgument, "The page token is invalid.")
		}
	}
	size := int(req.GetPageSize())
	if size <= 0 {
		size = 250
	}
	out := &secretmanagerpb.ListSecretVersionsResponse{TotalSize: int32(len(all))}
	to := min(from+min(size, 25000), len(all))
	out.Versions = all[from:to]
	if to < len(all) {
		out.NextPageToken = strconv.Itoa(to)
	}
	return out, nil
}

// stateFilter reads the filters that are simulated: state:X or state=X, joined by OR.
func stateFilter(filter string) (func(secretmanagerpb.SecretVersion_State) bool, error) {
	if filter == "" {
		return func(secretmanagerpb.SecretVersion_State) bool { return true }, nil
	}
	wanted := map[secretmanagerpb.SecretVersion_State]bool{}
	for term := range strings.SplitSeq(filter, " OR ") {
		name, ok := strings.CutPrefix(strings.Replace(term, "=", ":", 1), "state:")
		state, known := secretmanagerpb.SecretVersion_State_value[name]
		if !ok || !known {
			return nil, status.Error(codes.InvalidArgument, "The filter is invalid.")
		}
		wanted[secretmanagerpb.SecretVersion_State(state)] = true
	}
	return func(s secretmanagerpb.SecretVersion_State) bool { return wanted[s] }, nil
}

// EnableSecretVersion makes a disabled version readable again.
func (m secretManagerAPI) EnableSecretVersion(_ context.Context, req *secretmanagerpb.EnableSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	return m.setState(req, "secretmanager.versions.enable", secretmanagerpb.SecretVersion_ENABLED)
}

// DisableSecretVersion makes a version unreadable until it is enabled.
func (m secretManagerAPI) DisableSecretVersion(_ context.Context, req *secretmanagerpb.DisableSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	return m.setState(req, "secretmanager.versions.disable", secretmanagerpb.SecretVersion_DISABLED)
}

// DestroySecretVersion deletes a payload for good.
func (m secretManagerAPI) DestroySecretVersion(_ context.Context, req *secretmanagerpb.DestroySecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	return m.setState(req, "secretmanager.versions.destroy", secretmanagerpb.SecretVersion_DESTROYED)
}

// setState moves a version through its states. Aliases are not taken here (the proto's comment on version_aliases:
// only Get and Access know them).
func (m secretManagerAPI) setState(req interface {
	GetName() string
	GetEtag() string
}, permission string, to secretmanagerpb.SecretVersion_State) (*secretmanagerpb.SecretVersion, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, v, err := m.findVersion(req.GetName(), permission, false)
	if err != nil {
		return nil, err
	}
	if req.GetEtag() != "" && req.GetEtag() != v.etag {
		return nil, errEtag
	}
	if err := m.spend(&v.writes, 1); err != nil {
		return nil, err
	}
	if v.state == secretmanagerpb.SecretVersion_DESTROYED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in DESTROYED state.", m.versionName(s, v))
	}
	if to == secretmanagerpb.SecretVersion_DESTROYED {
		m.cloud.Record(Event{
			Kind: VersionDestroyed, Service: SecretManagerService, Target: m.pathOf(s),
			KeyID: m.cloud.KeyID(v.value), Version: strconv.FormatInt(v.number, 10),
		})
		v.destroyed, v.value = m.cloud.Now(), secret.Value{}
	}
	v.state, v.etag = to, m.nextEtag()
	m.publish(s)
	return m.versionProto(s, v), nil
}

// TestIamPermissions returns those of the asked permissions that were not denied. Google's docs: a resource that does
// not exist answers with none, not with NOT_FOUND.
func (m secretManagerAPI) TestIamPermissions(_ context.Context, req *iampb.TestIamPermissionsRequest) (*iampb.TestIamPermissionsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &iampb.TestIamPermissionsResponse{}
	id, _, ok := m.split(req.GetResource())
	if !ok {
		return nil, errName(req.GetResource())
	}
	if m.secrets[id] == nil {
		return out, nil
	}
	for _, p := range req.GetPermissions() {
		if !m.denied[p] {
			out.Permissions = append(out.Permissions, p)
		}
	}
	return out, nil
}
