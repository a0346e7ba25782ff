package config

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/rekeyhq/rekey/store/awssm"
)

var awsRole = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)

// awsStore checks what only a store on AWS has.
func (c *check) awsStore(where at, f fileStore, s *Store) {
	for _, o := range []struct{ field, value string }{{"region", f.Region}, {"role", f.Role}} {
		c.only(where, o.field, o.value, f.Type, AWSSecretsManager)
	}
	if f.Type != AWSSecretsManager {
		return
	}
	s.Region, s.Role = f.Region, f.Role
	switch {
	case f.Region == "":
		c.problem(where.field("region"), "missing; expected the AWS region of the secrets, such as eu-central-1")
	case !awssm.ValidRegion(f.Region):
		c.problem(where.field("region"), "%q is no AWS region; expected one such as eu-central-1", f.Region)
	}
	if f.Role != "" && !awsRole.MatchString(f.Role) {
		c.problem(where.field("role"), "%q is no role; expected an ARN such as arn:aws:iam::123456789012:role/rekey", f.Role)
	}
	if f.Endpoint != "" && !awssm.ValidEndpoint(f.Endpoint) {
		c.problem(where.field("endpoint"), "%q may not get secrets; expected https:// with a host below amazonaws.com (amazonaws.com.cn, amazonaws.eu), or http://host:port on loopback", f.Endpoint)
	}
}

// awsPath checks a key's path in a store on AWS: one name for each secret.
func (c *check) awsPath(where at, path string) {
	if !awssm.ValidPath(path) {
		c.problem(where, "%q is no path; expected the name of a secret, not its ARN: 1 to 500 letters, digits and /_+=.@-, not below rekey/, where rekey keeps its records", path)
	}
}

// onlyAmong is only for a field of several types.
func (c *check) onlyAmong(where at, field, value, have string, want ...string) {
	if !slices.Contains(want, have) {
		c.only(where, field, value, have, strings.Join(want, " and "))
	}
}

// AWSStores makes the stores on AWS, by name, and nothing else of the file: AWS's rotation function needs no more.
func (c *Config) AWSStores(ctx context.Context) (map[string]*awssm.Store, error) {
	all := map[string]*awssm.Store{}
	for name, s := range c.Stores {
		if s.Type != AWSSecretsManager {
			continue
		}
		var err error
		if all[name], err = s.openAWS(ctx, name); err != nil {
			return nil, fmt.Errorf("store %s: %w", name, err)
		}
	}
	return all, nil
}

func (s Store) openAWS(ctx context.Context, name string) (*awssm.Store, error) {
	o := awssm.Options{Name: name, Region: s.Region, Endpoint: s.Endpoint, RequestTimeout: s.RequestTimeout, ReadLag: said(s.ReadLag)}
	if !strings.HasPrefix(s.Endpoint, "http://") {
		var err error
		if o.Credentials, err = awsCredentials(ctx, s.Region, s.Role); err != nil {
			return nil, err
		}
	}
	return awssm.New(o)
}

// awsCredentials are those of AWS's default chain (environment, shared files, the machine's or the function's role), or
// of the role that they assume. Nobody is asked before they are needed. A Secrets Manager on loopback takes none of them.
func awsCredentials(ctx context.Context, region, role string) (aws.CredentialsProvider, error) {
	// The SDK can be told to log requests, with their credentials.
	c, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(region), awsconfig.WithLogger(logging.Nop{}), awsconfig.WithClientLogMode(0))
	if err != nil {
		// The library's text can quote the shared files.
		return nil, errors.New("this machine's AWS configuration cannot be used (environment and ~/.aws). Look at it with: aws configure list")
	}
	if role == "" {
		return c.Credentials, nil
	}
	return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), role, func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "rekey" }), nil
}
