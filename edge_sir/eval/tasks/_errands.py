"""Errands in the form of the paper's grocery, each with a question that shares no content word with it."""

from edge_sir.eval._words import words
from edge_sir.eval.tasks._paper.topics import Topic

__all__ = ["ERRANDS", "NAMES"]


def _errand(verb: str, kind: str, things: str, question: str) -> Topic:
    return Topic(verb, kind, words(things), question)


ERRANDS = (
    _errand(
        "buy",
        "grocery",
        "milk,butter,raisins,vinegar,mustard,almonds",
        "What should you bring home from the supermarket?",
    ),
    _errand(
        "call",
        "relative",
        "aunt,nephew,grandfather,niece,stepson,godmother",
        "Which member of the family are you to phone?",
    ),
    _errand("feed", "pet", "hamster,gecko,canary,guinea pig,budgie,chinchilla", "Whose bowl do you have to fill?"),
    _errand("mix", "colour", "crimson,beige,turquoise,ochre,lilac,indigo", "Which shade shall be on the palette?"),
    _errand("tune", "instrument", "cello,harp,banjo,mandolin,lute,zither", "What is off pitch and needs your ear?"),
    _errand("cook", "meal", "lasagna,paella,gumbo,moussaka,chowder,stroganoff", "What are we going to eat at noon?"),
    _errand(
        "repair",
        "machine",
        "dishwasher,blender,tractor,chainsaw,photocopier,treadmill",
        "What is broken, so that you must mend it?",
    ),
    _errand("plant", "tree", "maple,birch,chestnut,willow,ginkgo,larch", "What shall grow in the garden one day?"),
    _errand(
        "practise",
        "sport",
        "tennis,curling,handball,karate,cricket,badminton",
        "Which exercise do you have to train for?",
    ),
    _errand("sell", "car", "Volvo,Fiat,Toyota,Renault,Lada,Maserati", "Which vehicle should get another owner?"),
    _errand(
        "pack",
        "garment",
        "scarf,cardigan,raincoat,pyjamas,poncho,waistcoat",
        "What has to be folded into the suitcase?",
    ),
    _errand("study", "subject", "geology,botany,algebra,Latin,theology,astronomy", "What is your exam going to be in?"),
    _errand("wash", "fabric", "cotton,velvet,corduroy,denim,tweed,flannel", "What goes into the laundry?"),
    _errand(
        "unlock", "room", "pantry,nursery,ballroom,cloakroom,sauna,crypt", "Where should nobody find the door shut?"
    ),
    _errand(
        "order", "drink", "lemonade,cider,cocoa,espresso,sherry,kombucha", "What should the waiter bring me in a glass?"
    ),
    _errand(
        "frame", "picture", "landscape,portrait,sunset,still life,seascape,caricature", "What is to hang on the wall?"
    ),
    _errand(
        "translate",
        "language",
        "Danish,Polish,Swahili,Greek,Basque,Korean",
        "From which tongue will you put the text into English?",
    ),
    _errand("invite", "guest", "mayor,priest,violinist,senator,magician,referee", "Who will sit at our table?"),
    _errand("shine", "metal", "pewter,chrome,nickel,zinc,platinum,cobalt", "What should you rub until it is bright?"),
    _errand(
        "move",
        "furniture",
        "armchair,cupboard,bunk bed,dresser,footstool,hatstand",
        "What stands in the way and must be carried upstairs?",
    ),
    _errand("sharpen", "tool", "chisel,axe,scythe,scissors,sickle,razor", "What is blunt and wants a good edge?"),
    _errand(
        "water", "flower", "tulip,orchid,daisy,begonia,geranium,hyacinth", "Which of the blossoms is thirsty already?"
    ),
    _errand("visit", "country", "Norway,Chile,Kenya,Vietnam,Bhutan,Portugal", "Where does your next trip abroad go?"),
    _errand("watch", "film", "western,thriller,musical,comedy,documentary,cartoon", "What is on at the cinema for us?"),
    _errand(
        "borrow",
        "book",
        "atlas,cookbook,bible,almanac,thesaurus,songbook",
        "What do you need from the library's shelf?",
    ),
    _errand(
        "bake",
        "pastry",
        "muffin,strudel,brownie,eclair,croissant,cheesecake",
        "What sweet thing has to go into the oven?",
    ),
    _errand(
        "climb",
        "mountain",
        "Everest,Matterhorn,Kilimanjaro,Olympus,Vesuvius,Denali",
        "Which summit are you supposed to reach?",
    ),
    _errand("follow", "river", "Thames,Danube,Nile,Rhine,Volga,Orinoco", "Along which stream does your path lead?"),
    _errand(
        "sign",
        "document",
        "lease,contract,treaty,petition,diploma,affidavit",
        "What does still lack your name at the bottom?",
    ),
    _errand("harvest", "vegetable", "carrot,turnip,leek,radish,fennel,parsnip", "What is ripe and ready to be picked?"),
    _errand(
        "taste", "cheese", "gouda,feta,brie,parmesan,cheddar,camembert", "Which product of the dairy should you try?"
    ),
    _errand("choose", "perfume", "lavender,jasmine,vanilla,musk,sandalwood,bergamot", "Which scent should I put on?"),
    _errand("wear", "gem", "ruby,opal,emerald,sapphire,topaz,amethyst", "Which stone will sparkle at your neck?"),
    _errand(
        "rehearse", "dance", "waltz,polka,samba,rumba,foxtrot,mambo", "Which steps should you master before the ball?"
    ),
    _errand("sing", "song", "ballad,carol,lullaby,anthem,serenade,hymn", "What should be heard from your throat?"),
    _errand("catch", "fish", "trout,salmon,eel,perch,herring,sturgeon", "What should bite on your hook?"),
    _errand(
        "draw",
        "bird",
        "robin,falcon,pelican,sparrow,swan,flamingo",
        "What has feathers and ought to be on your sketch?",
    ),
    _errand("count", "insect", "beetle,ant,moth,wasp,ladybird,grasshopper", "Which bug do you need the number of?"),
    _errand("rent", "boat", "canoe,kayak,yacht,raft,dinghy,catamaran", "In what are we going to cross the lake?"),
    _errand(
        "clean", "shoe", "sandal,slipper,boot,sneaker,moccasin,clog", "What is muddy, though it is worn on the feet?"
    ),
    _errand("sew", "costume", "pirate,clown,witch,knight,vampire,mermaid", "As what do I dress up at carnival?"),
    _errand(
        "wrap",
        "present",
        "necklace,teapot,wallet,candle,teddy,kaleidoscope",
        "What will the birthday child get from us?",
    ),
    _errand(
        "solve",
        "puzzle",
        "sudoku,crossword,jigsaw,riddle,maze,anagram",
        "Which brain teaser is still waiting for the two of us?",
    ),
    _errand(
        "play", "game", "poker,bingo,dominoes,billiards,checkers,backgammon", "What do we do for fun in the evening?"
    ),
    _errand(
        "treat",
        "illness",
        "flu,measles,asthma,migraine,mumps,bronchitis",
        "What does the patient suffer from?",
    ),
    _errand(
        "hire",
        "craftsman",
        "carpenter,roofer,tailor,glazier,blacksmith,electrician",
        "Who should come to our house with a toolbox?",
    ),
    _errand(
        "report",
        "crime",
        "theft,forgery,arson,smuggling,bribery,burglary",
        "What do the police have to learn from you?",
    ),
    _errand(
        "expect", "weather", "hail,drizzle,thunder,blizzard,sleet,heatwave", "What does the sky have in store for us?"
    ),
    _errand(
        "celebrate",
        "holiday",
        "Easter,Christmas,Halloween,Diwali,Hanukkah,Thanksgiving",
        "For which feast should the windows get decorated?",
    ),
    _errand("carve", "god", "Zeus,Apollo,Thor,Osiris,Vishnu,Athena", "Who should stand as a statue in the temple?"),
    _errand(
        "explain",
        "organ",
        "liver,kidney,spleen,lung,pancreas,stomach",
        "Which part of the body is your lecture about?",
    ),
    _errand("exchange", "currency", "dollar,rupee,peso,yen,franc,rouble", "What sort of money do you need to pay?"),
    _errand(
        "book", "hotel", "Astoria,Seaview,Belvedere,Metropole,Ritz,Savoy", "Where are we going to sleep in Vienna?"
    ),
    _errand("build", "shelter", "igloo,tent,hut,cabin,teepee,treehouse", "Under what roof do you spend the cold days?"),
    _errand("bury", "weapon", "sword,dagger,musket,spear,cannon,crossbow", "What should never be used to fight again?"),
    _errand(
        "guard",
        "building",
        "palace,prison,fortress,embassy,cathedral,monastery",
        "Where will you be on duty as a sentry?",
    ),
    _errand(
        "add",
        "spice",
        "cinnamon,nutmeg,paprika,saffron,turmeric,cardamom",
        "What is missing in the sauce, in your view?",
    ),
    _errand(
        "quote",
        "writer",
        "Shakespeare,Homer,Dante,Tolstoy,Goethe,Cervantes",
        "Whose lines should your speech begin with?",
    ),
    _errand(
        "record", "composer", "Mozart,Bach,Vivaldi,Chopin,Wagner,Handel", "Whose music is going to be on the disc?"
    ),
    _errand("observe", "star", "Sirius,Vega,Polaris,Rigel,Antares,Altair", "At what will you point the telescope?"),
    _errand("spread", "jam", "strawberry,apricot,cherry,plum,blackberry,gooseberry", "What do you put on my toast?"),
    _errand("peel", "fruit", "mango,banana,kiwi,lychee,pomegranate,papaya", "What is for dessert, without its skin?"),
    _errand("saddle", "animal", "camel,mule,zebra,llama,elephant,ostrich", "On whose back shall I ride?"),
    _errand(
        "install",
        "software",
        "browser,firewall,compiler,spreadsheet,antivirus,emulator",
        "What does my laptop still lack?",
    ),
    _errand(
        "engrave",
        "trophy",
        "cup,medal,shield,goblet,plaque,figurine",
        "In what from the cabinet should you cut our initials?",
    ),
)
"""No thing belongs to two of them."""

NAMES = words(
    "Martin,Paula,Stefan,Nora,George,Ruth,Oscar,Priya,Svetlana,Thomas,Anna,Boris,Clara,David,Emma,Felix,Greta,Henry,"
    "Irene,Jakob,Karin,Leo,Maria,Niklas,Ottilie,Peter,Quentin,Rita,Simon,Tina,Ursula,Victor,Walter,Xenia,Yvonne,Zoltan,"
    "Albert,Bella,Cyril,Daphne,Erik,Flora,Gordon,Helga,Isaac,Julia,Kevin,Laura,Marcus,Nina,Oliver,Petra"
)
"""People for whom errands are; nobody of these is in the talk."""
