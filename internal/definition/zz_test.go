package definition_test
import ("testing";"math/rand";"time";"dreamfeed/internal/definition";"bytes")
func TestZZ(t *testing.T){
 base:=bookshop(t)
 r:=rand.New(rand.NewSource(1))
 var worst time.Duration
 for i:=0;i<3000;i++{
  d:=bytes.Clone(base)
  for k:=0;k<1+r.Intn(4);k++{ switch r.Intn(3){case 0: d[r.Intn(len(d))]=byte(r.Intn(256)); case 1: a:=r.Intn(len(d)); b:=min(len(d),a+r.Intn(40)); d=append(d[:a:a],d[b:]...); case 2: a:=r.Intn(len(d)); b:=min(len(d),a+r.Intn(40)); c:=r.Intn(len(d)); d=append(d[:c:c],append(bytes.Clone(d[a:b]),d[c:]...)...)}}
  s:=time.Now(); definition.Load(d,"x"); if e:=time.Since(s);e>worst{worst=e;t.Log(i,e)}
 }
}
