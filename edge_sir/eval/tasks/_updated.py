"""What changes again and again: sentences, and common words of one kind for each."""

from dataclasses import dataclass

from edge_sir.eval._words import words

__all__ = ["KEYS", "Key"]


@dataclass(frozen=True, slots=True)
class Key:
    """Something whose value changes.

    first: tells it, with {} for the value; then: tells that it has another, with other words before the value, since a
    small model goes by these. question: asks for the latest.
    """

    first: str
    then: str
    question: str
    values: tuple[str, ...]


def _key(first: str, then: str, question: str, values: str) -> Key:
    return Key(first, then, question, words(values))


KEYS = (
    _key(
        "My password is {}.",
        "I have changed the password to {}.",
        "What is the password now?",
        "window,river,thunder,velvet,pencil,garden,bottle,button,castle,feather,hammer,island,jungle,lemon,marble,"
        "needle,orange,pepper,ribbon,rocket,saddle,shadow,silver,spoon,summer,sunset,ticket,tunnel,violet,wagon,"
        "winter,yellow,anchor,basket,blanket,cannon,circle,engine",
    ),
    _key(
        "Our mascot is the {}.",
        "For our mascot we have switched to the {}.",
        "Which animal is our mascot now?",
        "lion,tiger,bear,wolf,eagle,shark,whale,horse,camel,zebra,panda,koala,monkey,turtle,dolphin,elephant,giraffe,"
        "penguin,kangaroo,lizard,frog,snake,spider,bee,ant,duck,swan,owl,falcon,moose,bison,buffalo,otter,beaver,"
        "walrus,seal,crab,lobster,octopus,squid",
    ),
    _key(
        "My office is in {}.",
        "They have moved my office to {}.",
        "Where is my office now?",
        "Paris,London,Rome,Berlin,Madrid,Vienna,Athens,Dublin,Oslo,Prague,Warsaw,Moscow,Tokyo,Delhi,Cairo,Sydney,"
        "Boston,Chicago,Dallas,Denver,Miami,Seattle,Toronto,Montreal,Havana,Bangkok,Seoul,Beijing,Shanghai,Dubai,"
        "Istanbul,Budapest,Milan,Naples,Munich,Hamburg,Zurich,Geneva",
    ),
    _key(
        "My boss is {}.",
        "As my boss they have hired {}.",
        "Who is my boss now?",
        "Peter,Anna,Thomas,Maria,George,Emma,Paul,Laura,Martin,Julia,Robert,Alice,Henry,Clara,Daniel,Sarah,David,Helen,"
        "Frank,Susan,Simon,Karen,Oliver,Nancy,Steven,Linda,Kevin,Grace,Walter,Sophie,Victor,Rachel,Oscar,Diana,Brian,"
        "Molly,Felix,Nora",
    ),
    _key(
        "The plan for dinner is {}.",
        "For dinner we will rather cook {}.",
        "What will we have for dinner now?",
        "pizza,pasta,rice,steak,salmon,curry,burgers,tacos,sushi,omelette,salad,chicken,veal,lamb,pork,beef,tuna,"
        "shrimp,beans,lentils,potatoes,mushrooms,spinach,cabbage,broccoli,carrots,tofu,bacon,sausages,cheese,eggs,"
        "toast,stew,soup,lasagna,ravioli,paella,kebab",
    ),
    _key(
        "My holidays will be in {}.",
        "I have shifted my holidays to {}.",
        "Where will my holidays be now?",
        "Norway,Sweden,Finland,Denmark,Poland,Germany,Austria,Portugal,Ireland,Scotland,Iceland,Russia,China,Japan,"
        "India,Nepal,Thailand,Vietnam,Australia,Canada,Mexico,Brazil,Chile,Peru,Argentina,Cuba,Egypt,Morocco,Kenya,"
        "Ghana,Nigeria,Israel,Jordan,Iran,Malta,Cyprus,France,Spain",
    ),
    _key(
        "My daughter wants to become a {}.",
        "By now my daughter would rather be a {}.",
        "What does my daughter want to become now?",
        "doctor,teacher,lawyer,farmer,painter,singer,dancer,writer,sailor,soldier,butcher,carpenter,chef,dentist,"
        "driver,banker,barber,cleaner,clown,coach,detective,reporter,fisherman,florist,hunter,jeweller,magician,"
        "mechanic,miner,musician,poet,priest,professor,sculptor,tailor,waiter,wrestler,scientist",
    ),
    _key(
        "My favourite sport is {}.",
        "In sports I have turned to {}.",
        "Which sport do I do now?",
        "tennis,football,boxing,golf,rugby,cricket,hockey,judo,karate,rowing,sailing,surfing,skiing,skating,cycling,"
        "swimming,running,jumping,diving,fencing,archery,wrestling,baseball,basketball,volleyball,handball,badminton,"
        "squash,bowling,curling,climbing,hiking,riding,gymnastics,polo,darts,snooker,yoga",
    ),
)
