#!/usr/bin/env python3
"""Extracts schema.json from the Go code that ygot generates from OpenConfig.

    go mod download github.com/openconfig/ygot@v0.36.0
    python3 extract.py "$(go env GOMODCACHE)/github.com/openconfig/ygot@v0.36.0/exampleoc/oc.go" > schema.json

oc.go has the models twice: as a compressed goyang schema (types, keys,
mandatory nodes) and as struct tags (which module a node belongs to).
"""
import gzip, json, re, sys

oc = sys.argv[1]
b, on = bytearray(), False
for line in open(oc):
    if 'ySchema = []byte{' in line:
        on = True
    elif on and line.strip().startswith('}'):
        break
    elif on:
        b += bytes(int(x, 16) for x in re.findall(r'0x([0-9a-f]{2})', line))
j = json.loads(gzip.decompress(bytes(b)))

structs={};cur=None
fld=re.compile(r'^\t(\w+)\s+(\S+)\s+`path:"([^"]+)" module:"([^"]+)"')
for l in open(oc):
    m=re.match(r'^type (\w+) struct \{',l)
    if m: cur=m.group(1); structs[cur]=[]; continue
    if l.startswith('}'): cur=None
    if cur:
        m=fld.match(l)
        if m: structs[cur].append((m.group(2),m.group(3),m.group(4)))
mods={}
def walk(t,base,depth=0):
    for ty,p,m in structs.get(t,[]):
        for pp,mm in zip(p.split('|'),m.split('|')):
            names=pp.split('/'); ms=mm.split('/')
            at=base
            for n,k in zip(names,ms):
                at=at+'/'+n; mods.setdefault(at,k)
        child=re.sub(r'_OrderedMap$','',re.sub(r'^(map\[[^\]]+\])?\*','',ty))
        if child!=ty and child in structs:
            walk(child,base+'/'+p.split('|')[-1 if False else 0],depth+1)
walk('Device','')
SUB='/interfaces/interface/subinterfaces/subinterface'
PR='/network-instances/network-instance/protocols/protocol'
keep=['/acl/acl-sets','/acl/interfaces','/bfd/interfaces/interface/config','/bfd/interfaces/interface/interface-ref','/interfaces/interface/config',SUB+'/config',SUB+'/vlan/match/single-tagged',SUB+'/ipv4/addresses/address/config',SUB+'/ipv4/config',SUB+'/ipv6/addresses/address/config',SUB+'/ipv6/config',
'/network-instances/network-instance/config','/network-instances/network-instance/table-connections',PR+'/config',PR+'/static-routes',PR+'/bgp/global/config',PR+'/bgp/neighbors/neighbor/config',PR+'/bgp/neighbors/neighbor/enable-bfd',PR+'/bgp/neighbors/neighbor/afi-safis/afi-safi/config',PR+'/bgp/neighbors/neighbor/afi-safis/afi-safi/apply-policy',
'/routing-policy/defined-sets/prefix-sets','/routing-policy/policy-definitions/policy-definition/config']
ST='/routing-policy/policy-definitions/policy-definition/statements/statement'
keep+=[ST+'/config',ST+'/conditions/match-prefix-set',ST+'/conditions/config',ST+'/actions/config',ST+'/actions/bgp-actions/config']
drop={'state','mpls','l2','counters','rib'}
def typ(t):
    o={}
    k=t.get('Kind'); 
    names={1:'int8',2:'int16',3:'int32',4:'int64',5:'uint8',6:'uint16',7:'uint32',8:'uint64',9:'binary',10:'bits',11:'bool',12:'decimal64',13:'empty',14:'enum',15:'identity',16:'instance',17:'leafref',18:'string',19:'union'}
    o['kind']=names[k]
    if k==14: o['values']=sorted(t['Enum']['ToInt'])
    if k==15: 
        vals=[v['Name'] for v in t['IdentityBase'].get('Values',[])]
        if len(vals)>60: vals=[v for v in vals if v in('ethernetCsmacd','softwareLoopback','l3ipvlan','tunnel')]
        o['values']=vals
    if t.get('POSIXPattern'): o['patterns']=t['POSIXPattern']
    elif t.get('Pattern'): o['patterns']=['^('+p.replace('\\p{N}\\p{L}','0-9a-zA-Z')+')$' for p in t['Pattern']]
    if t.get('Range') : o['range']=[[r['Min']['Value'],r['Max']['Value']] for r in t['Range']]
    if t.get('Length'): o['length']=[[r['Min']['Value'],r['Max']['Value']] for r in t['Length']]
    if k==17: o['path']=t['Path']
    if k==19: o['types']=[typ(x) for x in t['Type']]
    return o
def rel(p): return any(p==k or p.startswith(k+'/') or k.startswith(p+'/') for k in keep)
def build(e,p):
    o={}
    if p in mods: o['module']=mods[p]
    if e.get('Key'): o['key']=e['Key'].split()
    if e.get('ListAttr') and e.get('Kind')==0: o['leaflist']=True
    if e.get('Mandatory')==1: o['mandatory']=True
    if e.get('Type'): o['type']=typ(e['Type'])
    if e.get('Kind')==1:
        o['nodes']={}
        for n,c in sorted((e.get('Dir') or {}).items()):
            q=p+'/'+n
            if n in drop: continue
            iskey = e.get('Key') and n in e['Key'].split()
            if rel(q) or iskey: o['nodes'][n]=build(c,q)
    return o
out={'nodes':{}}
for n in ['acl','bfd','interfaces','network-instances','routing-policy']:
    out['nodes'][n]=build(j['Dir'][n],'/'+n)
json.dump(out, sys.stdout, sort_keys=True, indent=0, separators=(',', ':'))
