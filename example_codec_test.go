package atmostonce_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// sealed is a Codec that keeps a store from reading what is kept: JSON, encrypted.
type sealed struct {
	atmostonce.JSON
	key [32]byte
}

func (s sealed) Encode(value any) ([]byte, error) {
	data, err := s.JSON.Encode(value)
	if err != nil {
		return nil, err
	}
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, data, nil), nil
}

func (s sealed) Decode(data []byte, ptr any) error {
	aead, err := s.aead()
	if err != nil {
		return err
	}
	if data, err = aead.Open(nil, nil, data, nil); err != nil {
		return errors.New("it is sealed with another key")
	}
	return s.JSON.Decode(data, ptr)
}

func (s sealed) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// protobuf is a Codec for functions that return messages of Protocol Buffers; what else
// there is, it leaves to JSON.
type protobuf struct{ atmostonce.JSON }

func (p protobuf) Encode(value any) ([]byte, error) {
	if m, ok := value.(proto.Message); ok {
		return proto.Marshal(m)
	}
	return p.JSON.Encode(value)
}

func (p protobuf) Decode(data []byte, ptr any) error {
	to := reflect.ValueOf(ptr).Elem() // a *pb.Receipt, say, which is nil
	if to.Kind() != reflect.Pointer || !to.Type().Implements(reflect.TypeFor[proto.Message]()) {
		return p.JSON.Decode(data, ptr)
	}
	to.Set(reflect.New(to.Type().Elem()))
	return proto.Unmarshal(data, to.Interface().(proto.Message))
}

func TestCodec_OfProtocolBuffers(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{Codec: protobuf{}, Errors: []error{byValue{}}})
	runs := 0
	f := atmostonce.Func(g, "charge", under(func(p *once.Policy) { p.OnFailure = once.Lock }), func(_ context.Context, in event) (*wrapperspb.StringValue, error) {
		if runs++; in.Note == "fails" {
			return nil, byValue{51}
		}
		return wrapperspb.String("ch_" + in.ID), nil
	})
	for range 2 {
		r, err := f(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Equal(t, "ch_7", r.GetValue())
		_, err = f(t.Context(), event{ID: "8", Note: "fails"})
		require.ErrorIs(t, err, byValue{51})
	}
	require.Equal(t, 2, runs)
}

// A store sees nothing of results and failures that are sealed, and one that is sealed
// with another key is no result.
func TestCodec_ThatSeals(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	p := under(func(p *once.Policy) { p.OnFailure = once.Lock })
	body := func(_ context.Context, in event) (string, error) {
		if in.Note == "fails" {
			return "", errors.New("card 4711 is refused")
		}
		return "card 4711", nil
	}
	mine := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{Codec: sealed{key: [32]byte{1}}}), "charge", p, body)
	other := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{Codec: sealed{key: [32]byte{2}}}), "charge", p, body)
	for _, in := range []event{{ID: "7"}, {ID: "8", Note: "fails"}} {
		first, err1 := mine(t.Context(), in)
		again, err2 := mine(t.Context(), in)
		require.Equal(t, first, again)
		require.Equal(t, err1, err2)
		_, err := other(t.Context(), in)
		requireRefusal(t, err, once.BadRecord)
		require.ErrorContains(t, err, "it is sealed with another key")
	}
	for r, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		require.NotEmpty(t, r.Outcome.Data)
		require.NotContains(t, string(r.Outcome.Data), "4711")
	}
}
