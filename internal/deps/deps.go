// Package deps is temporary.
package deps
import (
 _ "cloud.google.com/go/iam/admin/apiv1"
 _ "cloud.google.com/go/secretmanager/apiv1"
 _ "cloud.google.com/go/auth/credentials"
 _ "google.golang.org/api/option"
 _ "github.com/sashabaranov/go-openai"
 _ "github.com/openai/openai-go/v3"
 _ "filippo.io/age"
 _ "github.com/goccy/go-yaml"
 _ "github.com/spf13/cobra"
 _ "github.com/rogpeppe/go-internal/testscript"
 _ "go.temporal.io/sdk/worker"
 _ "go.temporal.io/sdk/contrib/envconfig"
 _ "github.com/stretchr/testify/require"
 _ "pgregory.net/rapid"
 _ "golang.org/x/term"
 _ "golang.org/x/time/rate"
 _ "github.com/gofrs/flock"
 _ "github.com/google/go-cmp/cmp"
)
