'use strict'
// What the JavaScript drivers share: running features and printing their lines, the steps of
// a group of two, and comparing what was read with what was sent.

const LIMIT = 40_000 // milliseconds that one feature may take

/** A feature that the client does not have; the message says why. */
class Lacks extends Error {}

/** Waits until done() holds, or fails with what was awaited. */
async function until (what, done, limit = LIMIT / 2) {
  const end = Date.now() + limit
  while (!(await done())) {
    if (Date.now() > end) throw new Error(`waited ${limit / 1000} s in vain: ${what()}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

function equal (got, want, what) {
  const g = JSON.stringify(got)
  const w = JSON.stringify(want)
  if (g !== w) throw new Error(`${what}: got ${g}, want ${w}`)
}

/** The error of a promise that has to be refused, checked against a pattern. */
async function refused (promise, pattern, what) {
  let value
  try {
    value = await promise
  } catch (e) {
    const text = describe(e)
    if (!pattern.test(text)) throw new Error(`${what}: refused with ${text}, want ${pattern}`)
    return
  }
  throw new Error(`${what}: not refused, answered ${JSON.stringify(value)}`)
}

/** Everything that an error says, causes and parts of aggregates included. */
function describe (e) {
  const inner = [...(e.errors ?? []), e.cause, e.originalError].filter(Boolean).map(describe)
  return [e.message, e.type, e.code, ...inner].filter(Boolean).join(' ').replace(/\s+/g, ' ')
}

/** n messages whose values compress well and differ. */
function messages (n, name) {
  return Array.from({ length: n }, (_, i) => ({ key: `${name}-${i}`, value: `${name} ${i} ` + 'abcdefgh'.repeat(40) }))
}

/** What the members of one group have received, by key; a key that comes twice is a fault. */
class Ledger {
  constructor () {
    this.by = new Map()
    this.twice = []
  }

  add (member, key) {
    if (this.by.has(key)) this.twice.push(key)
    this.by.set(key, member)
  }

  count (member) { return [...this.by.values()].filter(m => m === member).length }
}

/**
 * A group of two over the 4 partitions of a topic: the first member has all, the second takes
 * half, each message arrives once, and the first has all again after the second has left.
 *
 * join(name, ledger) starts a member: { assigned(): partitions, leave() }.
 * send(name) produces 40 messages, ten a partition, with keys of that name.
 */
async function groupOfTwo ({ join, send, takeOver = LIMIT / 2, settled = () => {} }) {
  const ledger = new Ledger()
  const members = []
  const shares = () => members.map(m => [...m.assigned()].sort().join())
  const received = n => until(() => `${ledger.by.size} of ${n} messages, partitions ${JSON.stringify(shares())}`, () => ledger.by.size === n)
  try {
    const one = await join('one', ledger)
    members.push(one)
    await until(() => `the first member to have 4 partitions: ${shares()}`, () => one.assigned().length === 4)
    await send('alone')
    await received(40)
    const two = await join('two', ledger)
    members.push(two)
    await until(() => `2 and 2 partitions: ${JSON.stringify(shares())}`, () => one.assigned().length === 2 && two.assigned().length === 2)
    equal([...one.assigned(), ...two.assigned()].sort(), [0, 1, 2, 3], 'partitions of both')
    await send('shared')
    await received(80)
    equal([ledger.count('one'), ledger.count('two')], [60, 20], 'messages of each')
    await settled(one, two)
    members.pop()
    await two.leave()
    await until(() => `the first member to take over: ${shares()}`, () => one.assigned().length === 4, takeOver)
    await send('left')
    await received(120)
    equal(ledger.twice, [], 'messages that came twice')
  } finally {
    for (const m of members) await m.leave()
  }
}

/** Runs [name, function] one after the other and prints their lines, then ends the process. */
async function run (features) {
  for (const [name, feature] of features) {
    const began = Date.now()
    let timer
    const late = new Promise((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${LIMIT / 1000} s`)), LIMIT)
    })
    let line = 'ok\t'
    try {
      if (typeof feature === 'string') throw new Lacks(feature)
      await Promise.race([feature(), late])
    } catch (e) {
      line = (e instanceof Lacks ? 'none\t' : 'fail\t') + describe(e)
      if (!(e instanceof Lacks)) console.error(name, e)
    }
    clearTimeout(timer)
    console.error(`${name}: ${Date.now() - began} ms`)
    process.stdout.write(`${name}\t${line}\n`)
  }
  process.exit(0)
}

module.exports = { Lacks, Ledger, describe, equal, groupOfTwo, messages, refused, run, until }
