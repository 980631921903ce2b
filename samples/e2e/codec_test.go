package e2e

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
)

// sealing is a codec that encrypts with a random nonce, so that no two
// encodings are equal.
type sealing struct {
	aead  cipher.AEAD
	bound bool
	owner string // additional data: the workflow ID, where bound
}

var _ converter.PayloadCodecWithSerializationContext = sealing{}

const sealed = "binary/sealed"

// encrypted returns the options of a client that encrypts everything, failures
// included. If bound, what one workflow's activities exchange with it cannot be
// opened in the name of another workflow.
func encrypted(bound bool) client.Options {
	dc := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), sealing{aead: encryptedAEAD(), bound: bound})
	return client.Options{
		DataConverter: dc,
		FailureConverter: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
			DataConverter: dc, EncodeCommonAttributes: true,
		}),
	}
}

func encryptedAEAD() cipher.AEAD {
	block, err := aes.NewCipher([]byte("0123456789abcdef"))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (c sealing) WithSerializationContext(where converter.SerializationContext) converter.PayloadCodec {
	if !c.bound {
		return c
	}
	switch where := where.(type) {
	case converter.WorkflowSerializationContext:
		c.owner = where.WorkflowID
	case converter.ActivitySerializationContext:
		c.owner = where.WorkflowID
	}
	return c
}

func (c sealing) Encode(plain []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(plain))
	for i, p := range plain {
		text, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		nonce := make([]byte, c.aead.NonceSize())
		if _, err := rand.Read(nonce); err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(sealed)},
			Data:     c.aead.Seal(nonce, nonce, text, []byte(c.owner)),
		}
	}
	return out, nil
}

func (c sealing) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		n := c.aead.NonceSize()
		if string(p.GetMetadata()[converter.MetadataEncoding]) != sealed || len(p.GetData()) < n {
			return nil, errors.New("not sealed")
		}
		text, err := c.aead.Open(nil, p.GetData()[:n], p.GetData()[n:], []byte(c.owner))
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(text, out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
