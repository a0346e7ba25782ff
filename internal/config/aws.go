package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/store/awssm"
)

var awsRole = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)

// awsStore checks what only a store on AWS has.
func (c *check) awsStore(where yamlPath, f fileStore, s *Store) {
	for _, o := range []struct{ field, value string }{{"region", f.Region}, {"role", f.Role}} {
		c.onlyForType(where, o.field, o.value, f.Type, AWSSecretsManager)
	}
	if f.Type != AWSSecretsManager {
		return
	}
	s.Region, s.Role = f.Region, f.Role
	switch {
	case f.Region == "":
		c.problem(where.field("region"), "missing; expected the AWS region of the secrets, such as eu-central-1")
	case !awssm.ValidRegion(f.Region):
		c.problem(where.field("region"), "%q is not a valid AWS region; expected one such as eu-central-1", f.Region)
	}
	if f.Role != "" && !awsRole.MatchString(f.Role) {
		c.problem(where.field("role"), "%q is not a valid role; expected an ARN such as arn:aws:iam::123456789012:role/rekey", f.Role)
	}
	if f.Endpoint != "" && !awssm.ValidEndpoint(f.Endpoint) {
		c.problem(where.field("endpoint"), "%q may not get secrets; expected https:// with a host below amazonaws.com (amazonaws.com.cn, amazonaws.eu), or http://host:port on loopback", f.Endpoint)
	}
}

// awsPath checks a key's path in a store on AWS: one name for each secret.
func (c *check) awsPath(where yamlPath, path string) {
	if !awssm.ValidPath(path) {
		c.problem(where, "%q is not a valid path; expected the name of a secret, not its ARN: 1 to 500 letters, digits and /_+=.@-, not below rekey/, where rekey keeps its records", path)
	}
}

// onlyForTypes is only for a field of several types.
func (c *check) onlyForTypes(where yamlPath, field, value, have string, want ...string) {
	if !slices.Contains(want, have) {
		c.onlyForType(where, field, value, have, strings.Join(want, " and "))
	}
}
