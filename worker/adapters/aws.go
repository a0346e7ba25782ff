package adapters

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/store/awssm"
)

// AWSStores makes the stores on AWS, by name, and nothing else of the file: AWS's rotation function needs no more.
func AWSStores(ctx context.Context, c *config.Config) (map[string]*awssm.Store, error) {
	all := map[string]*awssm.Store{}
	for name, s := range c.Stores {
		if s.Type != config.AWSSecretsManager {
			continue
		}
		var err error
		if all[name], err = openAWS(ctx, name, s); err != nil {
			return nil, fmt.Errorf("store %s: %w", name, err)
		}
	}
	return all, nil
}

func openAWS(ctx context.Context, name string, s config.Store) (*awssm.Store, error) {
	o := awssm.Options{Name: name, Region: s.Region, Endpoint: s.Endpoint, RequestTimeout: s.RequestTimeout, ReadLag: orDefault(s.ReadLag)}
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
	// The SDK can be configured to log requests, with their credentials.
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
