package simcloud

import (
	"hash/crc32"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The limits of Google's quota page and of the comments in the service's proto files.
const (
	maxPayload     = 64 << 10
	maxAnnotations = 16 << 10
	maxLabels      = 64
	maxAliases     = 50
)

var (
	secretID      = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	aliasName     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)
	annotationKey = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	labelKey      = regexp.MustCompile(`^[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}$`)
	labelValue    = regexp.MustCompile(`^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$`)

	errEtag = status.Error(codes.FailedPrecondition, "The etag provided in the request does not match the resource's current etag.")
)

func errName(name string) error {
	return status.Errorf(codes.InvalidArgument, "Invalid resource field value in the request: %q.", name)
}

// crcOf is the checksum that Secret Manager uses: CRC-32 with the Castagnoli polynomial.
func crcOf(data []byte) int64 {
	return int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// targetOfSecretManager is the resource that a request is about.
func targetOfSecretManager(request any) string {
	switch r := request.(type) {
	case interface{ GetName() string }:
		return r.GetName()
	case interface{ GetParent() string }:
		return r.GetParent()
	case interface{ GetResource() string }:
		return r.GetResource()
	case *secretmanagerpb.UpdateSecretRequest:
		return r.GetSecret().GetName()
	}
	return ""
}

// split reads projects/{id or number}/secrets/{secret}[/versions/{version}].
func (m *SecretManager) split(name string) (id, version string, ok bool) {
	p := strings.Split(name, "/")
	if len(p) != 4 && len(p) != 6 || p[0] != "projects" || p[2] != "secrets" || !secretID.MatchString(p[3]) || len(p) == 6 && p[4] != "versions" {
		return "", "", false
	}
	if p[1] != m.opts.Project && p[1] != projectNumber {
		return "", "", false
	}
	if len(p) == 6 {
		version = p[5]
	}
	return p[3], version, true
}

// find returns the secret of a name, if the caller may do with it what the permission says. The caller holds mu.
func (m *SecretManager) find(name, permission string) (*smSecret, error) {
	id, version, ok := m.split(name)
	if !ok || version != "" {
		return nil, errName(name)
	}
	return m.permitted(id, name, permission)
}

func (m *SecretManager) permitted(id, name, permission string) (*smSecret, error) {
	if m.denied[permission] {
		return nil, status.Errorf(codes.PermissionDenied, "Permission '%s' denied for resource '%s' (or it may not exist).", permission, name)
	}
	s := m.secrets[id]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "Secret [projects/%s/secrets/%s] not found.", projectNumber, id)
	}
	return s, nil
}

// findVersion returns the version of a name: a number, or, where aliases are taken, an alias or `latest` as readers
// see it now. `latest` is the newest that was created, whatever its state (the proto's comment). The caller holds mu.
func (m *SecretManager) findVersion(name, permission string, aliases bool) (*smSecret, *smVersion, error) {
	id, version, ok := m.split(name)
	if !ok || version == "" {
		return nil, nil, errName(name)
	}
	s, err := m.permitted(id, name, permission)
	if err != nil {
		return nil, nil, err
	}
	number, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		if !aliases {
			return nil, nil, errName(name)
		}
		number = s.seen(version, m.cloud.Now())
	}
	v := s.version(number)
	if v == nil {
		return nil, nil, status.Errorf(codes.NotFound, "Secret [projects/%s/secrets/%s] not found or has no versions.", projectNumber, id)
	}
	return s, v, nil
}

// spend counts a write against a quota of so many in a second.
func (m *SecretManager) spend(writes *[]time.Time, limit int) error {
	if !m.opts.Quota {
		return nil
	}
	now := m.cloud.Now()
	recent := slices.DeleteFunc(slices.Clone(*writes), func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(recent) >= limit {
		return status.Error(codes.ResourceExhausted, "Quota exceeded for quota metric 'Secret Manager write requests' of this resource.")
	}
	*writes = append(recent, now)
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return status.Errorf(codes.InvalidArgument, "A secret has at most %d labels.", maxLabels)
	}
	for k, v := range labels {
		if !labelKey.MatchString(k) || !labelValue.MatchString(v) {
			return status.Error(codes.InvalidArgument, "A label is invalid.")
		}
	}
	return nil
}

func checkAnnotations(annotations map[string]string) error {
	size := 0
	for k, v := range annotations {
		if !annotationKey.MatchString(k) {
			return status.Error(codes.InvalidArgument, "An annotation key is invalid.")
		}
		size += len(k) + len(v)
	}
	if size >= maxAnnotations {
		return status.Errorf(codes.InvalidArgument, "The annotations must be less than %d bytes in all.", maxAnnotations)
	}
	return nil
}

// checkAliases: whether the real service takes an alias for a destroyed version is not documented. A new one is
// refused here; one that was there stays, or else nobody could change anything any more.
func (s *smSecret) checkAliases(aliases map[string]int64) error {
	if len(aliases) > maxAliases {
		return status.Errorf(codes.InvalidArgument, "A secret has at most %d version aliases.", maxAliases)
	}
	for name, number := range aliases {
		if !aliasName.MatchString(name) || name == "latest" || name == "NEW" {
			return status.Error(codes.InvalidArgument, "A version alias is invalid.")
		}
		v := s.version(number)
		if v == nil || v.state == secretmanagerpb.SecretVersion_DESTROYED && s.aliases[name] != number {
			return status.Errorf(codes.InvalidArgument, "Version %d does not exist.", number)
		}
	}
	return nil
}

func (m *SecretManager) versionName(s *smSecret, v *smVersion) string {
	return "projects/" + projectNumber + "/secrets/" + s.id + "/versions/" + strconv.FormatInt(v.number, 10)
}

func (m *SecretManager) secretProto(s *smSecret) *secretmanagerpb.Secret {
	etag := s.etag
	if m.noEtags {
		etag = ""
	}
	return &secretmanagerpb.Secret{
		Name: "projects/" + projectNumber + "/secrets/" + s.id, Etag: etag, CreateTime: timestamppb.New(s.created),
		Replication: s.replication, Labels: maps.Clone(s.labels), Annotations: maps.Clone(s.annotations), VersionAliases: maps.Clone(s.aliases),
	}
}

func (m *SecretManager) versionProto(s *smSecret, v *smVersion) *secretmanagerpb.SecretVersion {
	out := &secretmanagerpb.SecretVersion{
		Name: m.versionName(s, v), State: v.state, Etag: v.etag, CreateTime: timestamppb.New(v.created),
		ClientSpecifiedPayloadChecksum: v.checked,
	}
	if !v.destroyed.IsZero() {
		out.DestroyTime = timestamppb.New(v.destroyed)
	}
	return out
}
