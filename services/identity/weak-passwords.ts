// The passwords that everybody tries first, written down as people make them: a core and an ending. Cores are words of
// everyday life, also doubled, backwards and with letters written as digits or signs, walks over the keyboard, runs and
// repetitions; endings are years, small numbers and signs. Some thousand cores by some two hundred endings are more
// than a million passwords in a few hundred kilobytes, and none of them was copied from anybody's leak.
const words = `
password passwort passphrase motdepasse contrasena wachtwoord parola senha letmein welcome willkommen bienvenue
admin administrator root user guest login access secret master superuser changeme default temp temporary test testing
tester demo sample example hello hallo bonjour hola monkey dragon tiger lion eagle falcon wolf bear panther shark
horse kitty puppy buddy rabbit turtle dolphin butterfly ladybug football soccer baseball basketball hockey tennis
golfer rugby cricket boxing racing ferrari porsche mercedes mustang corvette camaro yamaha harley honda toyota jaguar
summer winter spring autumn sommer herbst january february march april june july august september october november
december monday tuesday wednesday thursday friday saturday sunday morning midnight sunshine sunset rainbow thunder
lightning storm cloud ocean river mountain forest flower rose lily daisy orchid cherry apple orange banana lemon
peach mango strawberry chocolate cookie candy sugar honey coffee pepper ginger cheese pizza pancake butter noodle
love lover iloveyou loveme forever always family mother father brother sister daughter grandma baby angel angels
princess prince queen king knight wizard warrior ninja samurai pirate soldier hunter killer ranger batman superman
spiderman starwars matrix pokemon pikachu naruto mario zelda minecraft fortnite avengers hobbit gandalf
michael jennifer jordan ashley jessica daniel matthew andrew joshua nicole thomas robert charlie william george
alexander michelle amanda samantha anthony hannah sophia olivia maria martin stefan andreas sandra sabine claudia
computer internet keyboard monitor laptop server network system windows linux android iphone samsung google facebook
twitter instagram youtube amazon netflix microsoft company business office manager money dollar million lucky
freedom liberty justice peace heaven jesus christ church trustno whatever nothing something anything everyone
america england london paris berlin germany france italy spain canada mexico brazil texas chicago newyork boston
liverpool arsenal chelsea barcelona realmadrid juventus bayern dortmund yankees cowboys lakers bulls steelers
purple yellow silver golden diamond crystal black white green blue red pink shadow phoenix raven cobra viper
guitar piano music dance singer rockstar metallica nirvana beatles slipknot eminem hiphop reggae classic legend
armature shop webshop store customer
`
  .trim()
  .split(/\s+/);

const years = Array.from({ length: 81 }, (_, index) => String(1950 + index));
const endings = [
  ...years,
  ...['', '!', '!!', '.', '?', '$', '@', '#', '*', '1!', '12!', '123!', '1234!', '@1', '@12', '@123', '@1234', '#1'],
  ...[
    '0',
    '1',
    '2',
    '3',
    '4',
    '5',
    '6',
    '7',
    '8',
    '9',
    '00',
    '01',
    '07',
    '10',
    '11',
    '12',
    '13',
    '21',
    '22',
    '23',
    '24',
  ],
  ...[
    '25',
    '26',
    '33',
    '42',
    '44',
    '55',
    '66',
    '69',
    '77',
    '88',
    '99',
    '000',
    '007',
    '100',
    '101',
    '111',
    '121',
    '123',
  ],
  ...[
    '222',
    '234',
    '321',
    '333',
    '444',
    '456',
    '555',
    '666',
    '777',
    '789',
    '888',
    '999',
    '1212',
    '1234',
    '2468',
    '4321',
  ],
  ...['12345', '54321', '123456', '1234567', '12345678', 'abc', 'xyz', 'qwe', 'asd'],
];
const rows = [
  '1234567890',
  'qwertyuiop',
  'asdfghjkl',
  'zxcvbnm',
  'qwertzuiop',
  'yxcvbnm',
  'azertyuiop',
  'abcdefghijklmnop',
];
const columns = ['1qaz', '2wsx', '3edc', '4rfv', '5tgb', '6yhn', '7ujm', 'qaz', 'wsx', 'edc', 'zaq1', 'xsw2', 'cde3'];
const lettersForSigns: Record<string, string> = {
  4: 'a',
  '@': 'a',
  3: 'e',
  1: 'i',
  '!': 'i',
  0: 'o',
  5: 's',
  $: 's',
  7: 't',
};

const reversed = (text: string) => [...text].reverse().join('');
/** With letters where digits and signs stand for them. */
const plain = (text: string) => text.replace(/[4@31!05$7]/g, (sign) => lettersForSigns[sign] ?? sign);

function* coresOfWords(): Generator<string> {
  for (const word of words) {
    yield* [word, word + word, reversed(word)];
    for (const start of ['my', 'the', '1', '12', '123', '1234']) yield start + word;
  }
}

function* coresOfKeys(): Generator<string> {
  for (const row of [...rows, ...rows.map(reversed)]) {
    for (let from = 0; from < row.length; from += 1) {
      for (let to = from + 3; to <= row.length; to += 1) {
        const walk = row.slice(from, to);
        yield* [walk, walk + walk, walk + reversed(walk)];
      }
    }
  }
  for (const first of columns) {
    yield first;
    for (const second of columns) {
      yield first + second;
      for (const third of columns) yield first + second + third;
    }
  }
}

let made: ReadonlySet<string> | null = null;

/** A group of one to four characters over and over: 11111111, 12121212, 19841984. */
const repetition = /^(.{1,4}?)\1+$/su;

/** Whether a password is one of the most common, whatever its case. */
export function isCommon(password: string): boolean {
  made ??= new Set([...coresOfWords(), ...coresOfKeys()]);
  const cores = made;
  const text = password.toLowerCase();
  if (repetition.test(text)) return true;
  // A sign behind the year, which rules for passwords demand, makes nothing better.
  return [text, text.replace(/[!.?$@#*]+$/, '')].some((start) => hasCore(start, cores));
}

const hasCore = (text: string, cores: ReadonlySet<string>): boolean =>
  endings.some((ending) => {
    if (!text.endsWith(ending)) return false;
    const core = text.slice(0, text.length - ending.length);
    return cores.has(core) || cores.has(plain(core));
  });

/** Every password that a core and an ending make and that is long enough to be chosen, for the test. */
export function* weakPasswords(): Generator<string> {
  for (const core of new Set([...coresOfWords(), ...coresOfKeys()])) {
    for (const ending of endings) if (core.length + ending.length >= 8) yield core + ending;
  }
}
