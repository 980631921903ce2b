package redisstore_test

import (
	"context"
	"errors"
	"log"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// A server whose replica has each claim before an effect begins. The guard asks Check
// when a worker starts; a program that starts no worker asks itself.
func ExampleNew() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	s, err := redisstore.New(rdb, redisstore.Options{Replicas: 1})
	if err != nil {
		log.Fatalln(err)
	}
	err = s.Check(context.Background())
	switch {
	case errors.Is(err, store.ErrUnverified): // a right to look is missing: it may be as it should be
		log.Println(err)
	case err != nil: // such as store.ErrUnsafe: it would evict records
		log.Fatalln(err)
	}
}
